"""RTP in, RTP out, audio to disk. Knows nothing of SIP, consent or configuration."""
