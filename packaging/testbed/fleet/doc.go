// Package fleet tests several hosts as one cluster, on light hosts of the test-bed: what they know of each other, what
// becomes of their pods when some are cut off or lose power, and Ansible's role that sets them up. TestFailover with -runs
// measures how long it takes until the pods of a lost host are ready elsewhere.
package fleet
