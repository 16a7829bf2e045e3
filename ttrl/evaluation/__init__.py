"""What decides on a candidate and says how good answers are: values in, values out."""
