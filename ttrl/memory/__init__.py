"""Whether engine and trainer fit on one card, reckoned before anything starts.

`shape` reads what a model is, `asked` what the settings ask for, `plan` reckons, `judge` decides,
`check` is the door for those who start things.
"""
