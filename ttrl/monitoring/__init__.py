"""When a run in progress is stopped, and when the live version is rolled back."""
