"""The words of the language: what options there are, what they take, and what is said of a wrong one."""
