"""How the binary wheels are made: pinned curl and OpenSSL, linked statically. See README.md here."""
