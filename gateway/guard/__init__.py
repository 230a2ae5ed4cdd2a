"""Who may send what, how much and how fast: pure logic in front of SIP; time and entropy are given in."""
