package metadata

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Addr is host:port, an IPv6 address in brackets.
func (l Listener) Addr() string {
	host := l.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.Itoa(int(l.Port))
}

// String is NAME://host:port.
func (l Listener) String() string { return l.Name + "://" + l.Addr() }

// securityProtocols are Kafka's; strata serves the first.
var securityProtocols = []string{"PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"}

const wantListener = "Each entry must be NAME://host:port, with a port from 0 to 65535"

// Listeners gives where to listen, in the order of the setting: an empty host
// is every address, port 0 leaves the choice to the operating system. The error
// names the setting, its value and what is allowed.
func (s *Static) Listeners() ([]Listener, error) {
	all, err := s.parseListeners("listeners")
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, s.refuse("listeners", wantListener)
	}
	for i, l := range all {
		for _, other := range all[:i] {
			if other.Name == l.Name {
				return nil, s.refuse("listeners", "Each listener must have a name of its own: "+l.Name+" is there twice")
			}
			if other.Port == l.Port && l.Port != 0 && !dualStack(other.Host, l.Host) {
				return nil, s.refuse("listeners", "Each listener must have a port of its own: "+strconv.Itoa(int(l.Port))+" is there twice")
			}
		}
	}
	return all, nil
}

// dualStack tells one IPv4 and one IPv6 address: these may share a port (KIP-797).
func dualStack(a, b string) bool {
	x, errX := netip.ParseAddr(a)
	y, errY := netip.ParseAddr(b)
	return errX == nil && errY == nil && x.Is4() != y.Is4()
}

// Advertised gives the addresses that clients are told to use: those of
// advertised.listeners, else of listeners, without the controllers'. An empty
// host and port 0 are left for the caller to fill: only it knows the
// machine's name and the port that was bound.
func (s *Static) Advertised() ([]Listener, error) {
	listeners, err := s.Listeners()
	if err != nil {
		return nil, err
	}
	if _, ok := s.Lookup("advertised.listeners"); !ok {
		return s.defaultAdvertised(listeners)
	}
	all, err := s.parseListeners("advertised.listeners")
	if err != nil {
		return nil, err
	}
	for i, l := range all {
		switch {
		case !slices.ContainsFunc(listeners, func(o Listener) bool { return o.Name == l.Name }):
			return nil, s.refuse("advertised.listeners", "Each name must be among those of listeners ("+names(listeners)+"): "+l.Name+" is not")
		case slices.ContainsFunc(all[:i], func(o Listener) bool { return o.Name == l.Name }):
			return nil, s.refuse("advertised.listeners", "Each name may be there once: "+l.Name+" is there twice")
		case isMetaAddress(l.Host):
			return nil, s.refuse("advertised.listeners", l.Host+" is no address that a client can connect to. Use a routable one")
		}
	}
	clients := s.clientListeners(all)
	if len(clients) == 0 {
		return nil, s.refuse("advertised.listeners", "There must be one that is not in controller.listener.names")
	}
	return clients, nil
}

func (s *Static) defaultAdvertised(listeners []Listener) ([]Listener, error) {
	all := s.clientListeners(listeners)
	if len(all) == 0 {
		return nil, s.refuse("listeners", "There must be one that is not in controller.listener.names ("+s.String("controller.listener.names")+")")
	}
	for _, l := range all {
		if isMetaAddress(l.Host) {
			return nil, s.refuse("listeners", "Set advertised.listeners too: "+l.Host+" is no address that a client can connect to")
		}
	}
	return all, nil
}

func isMetaAddress(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsUnspecified()
}

// ClientListeners are the listeners that clients connect to.
func (s *Static) ClientListeners() ([]Listener, error) {
	all, err := s.Listeners()
	return s.clientListeners(all), err
}

// clientListeners are those that are not for the metadata quorum alone.
func (s *Static) clientListeners(all []Listener) []Listener {
	return slices.DeleteFunc(slices.Clone(all), func(l Listener) bool { return slices.Contains(s.controllerNames(), l.Name) })
}

func (s *Static) controllerNames() []string {
	out := s.List("controller.listener.names")
	for i, name := range out {
		out[i] = strings.ToUpper(name)
	}
	return out
}

func names(all []Listener) string {
	out := make([]string, len(all))
	for i, l := range all {
		out[i] = l.Name
	}
	return strings.Join(out, ", ")
}

func (s *Static) parseListeners(setting string) ([]Listener, error) {
	protocols, err := s.protocolMap()
	if err != nil {
		return nil, err
	}
	var out []Listener
	for _, entry := range s.List(setting) {
		l, ok := parseListener(entry)
		if !ok {
			return nil, s.refuse(setting, wantListener+": "+entry+" is not")
		}
		switch l.Protocol, ok = protocols[l.Name]; {
		case !ok:
			return nil, s.refuse(setting, "Name "+l.Name+" must be a security protocol or have one in listener.security.protocol.map")
		case l.Protocol != "PLAINTEXT":
			return nil, s.refuse(setting, "Security protocol "+l.Protocol+" of "+l.Name+" is not served: only PLAINTEXT is")
		}
		out = append(out, l)
	}
	return out, nil
}

func parseListener(entry string) (Listener, bool) {
	name, addr, ok := strings.Cut(entry, "://")
	at := strings.LastIndexByte(addr, ':')
	if !ok || name == "" || at < 0 {
		return Listener{}, false
	}
	port, err := strconv.ParseUint(addr[at+1:], 10, 16)
	host := addr[:at]
	if bare, cut := strings.CutPrefix(host, "["); cut {
		host, cut = strings.CutSuffix(bare, "]")
		if a, err := netip.ParseAddr(host); !cut || err != nil || !a.Is6() {
			return Listener{}, false
		}
	} else if strings.Trim(host, hostCharacters) != "" {
		return Listener{}, false
	}
	return Listener{Name: strings.ToUpper(name), Host: host, Port: uint16(port)}, err == nil
}

const hostCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._"

// protocolMap gives the security protocol of each listener name. A name that is
// itself a protocol needs no row, nor do the controllers' listeners where the
// map is not set (KIP-631).
func (s *Static) protocolMap() (map[string]string, error) {
	const setting = "listener.security.protocol.map"
	out := map[string]string{}
	for _, p := range securityProtocols {
		out[p] = p
	}
	if _, ok := s.Lookup(setting); !ok {
		for _, name := range s.controllerNames() {
			if out[name] == "" {
				out[name] = "PLAINTEXT"
			}
		}
		return out, nil
	}
	for _, row := range s.List(setting) {
		name, protocol, ok := strings.Cut(row, ":")
		protocol = strings.ToUpper(strings.TrimSpace(protocol))
		if !ok || !slices.Contains(securityProtocols, protocol) {
			return nil, s.refuse(setting, "Each entry must be NAME:PROTOCOL, with a protocol of "+strings.Join(securityProtocols, ", ")+": "+row+" is not")
		}
		out[strings.ToUpper(strings.TrimSpace(name))] = protocol
	}
	return out, nil
}

func (s *Static) refuse(setting, want string) error {
	return &SettingError{Name: setting, Value: s.String(setting), Want: want}
}
