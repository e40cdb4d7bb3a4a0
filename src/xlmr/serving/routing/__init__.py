"""Which version answers a bare name, what is counted of it, and who reads along in the shadow."""
