package server

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// errShort is a part that ended before its length: the log was truncated, which
// only happens above what clients see.
var errShort = errors.New("reply is shorter than announced")

// sendChunk is the most that one sendfile is asked for: the deadline is renewed for each.
const sendChunk = mib

// sendFile writes a range of a file from the page cache to the socket.
func (w *stallWriter) sendFile(f *os.File, offset, length int64) error {
	source, err := f.SyscallConn()
	if err != nil {
		return err
	}
	for end := offset + length; offset < end; {
		n := min(end-offset, sendChunk)
		err := w.attempt(func() (sent int64, err error) {
			ctlErr := source.Control(func(in uintptr) {
				sent, err = w.sendOnce(int(in), offset, n)
			})
			offset, n = offset+sent, n-sent
			return sent, errors.Join(err, ctlErr)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// sendOnce sends n bytes, fewer only with an error.
func (w *stallWriter) sendOnce(in int, offset, n int64) (sent int64, err error) {
	waitErr := w.raw.Write(func(out uintptr) bool {
		for sent < n {
			var got int
			got, err = unix.Sendfile(int(out), in, &offset, int(n-sent))
			switch {
			case errors.Is(err, unix.EINTR):
				continue
			case errors.Is(err, unix.EAGAIN):
				err = nil
				return false
			case err != nil:
				err = os.NewSyscallError("sendfile", err)
				return true
			case got == 0:
				err = errShort
				return true
			}
			sent += int64(got)
		}
		return true
	})
	return sent, errors.Join(err, waitErr)
}

// writeMore writes b so that it leaves together with what follows.
func (w *stallWriter) writeMore(b []byte) error {
	return w.attempt(func() (int64, error) {
		var sent int
		var err error
		waitErr := w.raw.Write(func(out uintptr) bool {
			for sent < len(b) {
				var n int
				n, err = unix.SendmsgN(int(out), b[sent:], nil, nil, unix.MSG_MORE|unix.MSG_NOSIGNAL)
				switch {
				case errors.Is(err, unix.EINTR):
					continue
				case errors.Is(err, unix.EAGAIN):
					err = nil
					return false
				case err != nil:
					err = os.NewSyscallError("sendmsg", err)
					return true
				}
				sent += n
			}
			return true
		})
		b = b[sent:]
		n := int64(sent)
		sent = 0
		return n, errors.Join(err, waitErr)
	})
}
