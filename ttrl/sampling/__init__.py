"""From questions to groups of samples with rewards."""
