package server

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// unpaced is the congestion control of connections that do not leave this host. Where
// the system's is BBR the kernel paces them: it arms a timer for nearly each segment,
// which costs more CPU than sending it, and there is no line to be gentle to. Every
// kernel has Reno and lets every process choose it.
const unpaced = "reno"

// unpace makes the connections of a listener unpaced, and returns what the system's
// congestion control is, empty where it could not be changed. It is done before there
// is a connection: one that has been paced once is paced for good.
func unpace(l net.Listener) (system string) {
	control(l, func(fd int) {
		name, err := unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION)
		if err == nil && unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, unpaced) == nil {
			system = name
		}
	})
	return system
}

// repace gives a connection from another host the system's congestion control, before
// anything is sent.
func repace(nc net.Conn, system string) {
	if system == "" || sameHost(nc.LocalAddr(), nc.RemoteAddr()) {
		return
	}
	control(nc, func(fd int) {
		_ = unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, system) // it was allowed a moment ago
	})
}

// sameHost tells whether a connection ends where it begins.
func sameHost(local, remote net.Addr) bool {
	l, ok := local.(*net.TCPAddr)
	if !ok {
		return false
	}
	r, ok := remote.(*net.TCPAddr)
	return ok && (r.IP.IsLoopback() || r.IP.Equal(l.IP))
}

// control calls f with the socket's file descriptor, unless it is none or is closed.
func control(socket any, f func(fd int)) {
	if s, ok := socket.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { f(int(fd)) })
		}
	}
}
