"""The words of the language: which options there are, what values they take, and what is said about a wrong one."""
