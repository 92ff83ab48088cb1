"""Keep what is on this machine sound and small: verify, repair, count, clean. Floor 5, beside the api."""
