package protocol

// RequestHeader is what precedes every request body.
type RequestHeader struct {
	Key           int16
	Version       int16
	CorrelationID int32
	ClientID      string // "" where null
}
