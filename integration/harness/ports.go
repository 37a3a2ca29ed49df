package harness

import (
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// Ports are taken from below the range that systems use for outgoing
// connections: a broker that is down must not lose its port to one of these.
const (
	firstPort = 20000
	ports     = 12000
)

// FreeAddress is 127.0.0.1 with a port that nobody listens on.
func FreeAddress(tb testing.TB) string {
	tb.Helper()
	for range 100 {
		address := "127.0.0.1:" + strconv.Itoa(firstPort+rand.IntN(ports))
		var config net.ListenConfig
		listener, err := config.Listen(tb.Context(), "tcp", address)
		if err != nil {
			continue
		}
		if err := listener.Close(); err != nil {
			tb.Fatal(err)
		}
		return address
	}
	tb.Fatal("no free port")
	return ""
}
