"""Where SIP meets the sockets: asyncio, one timer and one outbox around the user agent core."""
