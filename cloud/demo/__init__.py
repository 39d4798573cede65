"""The whole road on a sample shop: a real server and a real device, each a process, a score, a picture."""
