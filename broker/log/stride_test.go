//go:build !race

package log_test

// crashStride is how many crash places the enumerations go on at a time: none
// is left out.
const crashStride = 1
