"""SIP (RFC 3261) without I/O: bytes, messages and time in; bytes, events and the next deadline out."""
