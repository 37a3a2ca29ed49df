//go:build !race

package protocol_test

// padding is by how much an allocation is larger than it would be in a broker.
const padding = 1
