"""The admin address: routes for `ttrl` on the same machine, and the operator's page."""
