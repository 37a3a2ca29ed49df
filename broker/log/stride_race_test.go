//go:build race

package log_test

// crashStride is how many crash places the enumerations go on at a time: the
// race detector makes each some ten times as slow, and looks for other mistakes.
const crashStride = 5
