"""The daemon: decides, and serves HTTP; computes nothing itself."""
