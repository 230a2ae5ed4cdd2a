"""The back-to-back user agent: the two legs of a call, tied together, and the consent decision at their gate."""
