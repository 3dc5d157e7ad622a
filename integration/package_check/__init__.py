"""The Debian package, installed on a clean Debian 12 that is booted for it, run there and removed again."""
