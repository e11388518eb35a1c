// Package e2e tests the installed package as its users would: on hosts of the test-bed, with apt, files in /etc/shoal, the
// shoal command, systemctl and signals. Nothing in it looks into the daemon.
package e2e
