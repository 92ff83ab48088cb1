"""What lies on this machine: in the hub cache, in our downloads, and in other programs' stores. Reads only."""
