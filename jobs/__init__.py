"""What runs on a clock or by hand; each job is a module with one `run()`."""
