"""Supply chain: known vulnerabilities of what the wheel depends on, and its bill of materials. `make audit`."""
