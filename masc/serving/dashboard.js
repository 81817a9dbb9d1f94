"use strict";
const $ = (id) => document.getElementById(id);
const events = new EventSource("events");
const over = () => ["trained", "stopped"].includes($("status").textContent);
events.addEventListener("message", (event) => {
  const news = JSON.parse(event.data);
  if ("body" in news) $("body").innerHTML = news.body;
  if ("name" in news) $("name").textContent = document.title = news.name;
  if ("status" in news) $("status").textContent = news.status;
  if (over()) events.close();
});
events.addEventListener("error", () => { if (!over()) $("status").textContent = "masc train has gone"; });
