"""The steps by which the database came to be as it is, one a file; `docs/database.md` says how to add one."""
