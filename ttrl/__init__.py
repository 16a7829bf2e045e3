"""The method of test-time self-improvement, and the nouns everybody shares."""
