package server

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

func congestionOf(t *testing.T, socket any) (name string) {
	t.Helper()
	control(socket, func(fd int) { name, _ = unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION) })
	if name == "" {
		t.Fatal("no congestion control")
	}
	return name
}

func TestOnlyConnectionsOfThisHostAreUnpaced(t *testing.T) {
	l, err := Listen(t.Context(), "PLAINTEXT", "127.0.0.1:0", Buffers{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Net.Close() }()
	client, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Net.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	nc, err := l.Net.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	repace(nc, l.congestion)
	if got := congestionOf(t, nc); got != unpaced {
		t.Errorf("a connection of this host has %s", got)
	}
	repace(elsewhere{nc.(*net.TCPConn)}, l.congestion)
	if got, want := congestionOf(t, nc), congestionOf(t, client); got != want {
		t.Errorf("a connection from elsewhere has %s, the system's is %s", got, want)
	}
}

// elsewhere is a connection that says it came from another host.
type elsewhere struct{ *net.TCPConn }

func (elsewhere) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 4711} }

func TestSameHost(t *testing.T) {
	tcp := func(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip)} }
	for _, c := range []struct {
		local, remote net.Addr
		same          bool
	}{
		{tcp("127.0.0.1"), tcp("127.0.0.1"), true},
		{tcp("::1"), tcp("::1"), true},
		{tcp("10.0.0.7"), tcp("10.0.0.7"), true},
		{tcp("::ffff:10.0.0.7"), tcp("10.0.0.7"), true},
		{tcp("10.0.0.7"), tcp("10.0.0.8"), false},
		{tcp("10.0.0.7"), &net.UnixAddr{Name: "@"}, false},
	} {
		if got := sameHost(c.local, c.remote); got != c.same {
			t.Errorf("%s to %s: %t", c.remote, c.local, got)
		}
	}
}
