"""What tests of several rooms need: servers and devices to test against, small models, requests and processes."""
