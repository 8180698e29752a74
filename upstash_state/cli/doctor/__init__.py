"""`doctor`: find out what is wrong with the set-up, and say what to do."""
