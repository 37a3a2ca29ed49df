//go:build race

package protocol_test

// The race detector keeps small allocations apart and pads large ones.
const padding = 3
