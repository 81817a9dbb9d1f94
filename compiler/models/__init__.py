"""Base models as files: where they lie, what their config says, what is wrong with a folder. Never loads one."""
