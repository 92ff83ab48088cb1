"""A read-only server of this machine's Hugging Face cache, which speaks the hub's protocol: for a classroom, one line.

Law: what is served is complete and published, lies inside the cache, and no token of anybody ever reaches a client.
"""
