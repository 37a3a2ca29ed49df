package metadata

import (
	"errors"
	"fmt"
	"slices"
)

// Validate tells whether the settings, each of them allowed, fit together for a
// broker to start on. The error is one line that names the setting, its value
// and what is allowed.
func (s *Static) Validate() error {
	for _, check := range []func() error{
		s.checkIdentity, s.checkListeners, s.checkQuorum, s.checkLogDirs, s.checkTiering, s.checkGroups,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Static) checkIdentity() error {
	if _, ok := s.Lookup("node.id"); !ok {
		return errors.New("Missing configuration node.id: a whole number from 0, different for each broker of the cluster") //nolint:staticcheck // one style with the errors of Setting.Check
	}
	if _, ok := s.Lookup("process.roles"); !ok {
		return nil
	}
	roles := s.List("process.roles")
	slices.Sort(roles)
	if !slices.Equal(roles, []string{"broker", "controller"}) {
		return s.refuse("process.roles", "Every strata broker takes part in the metadata quorum: broker,controller")
	}
	return nil
}

func (s *Static) checkListeners() error {
	listeners, err := s.Listeners()
	if err != nil {
		return err
	}
	if _, err := s.Advertised(); err != nil {
		return err
	}
	for _, name := range s.controllerNames() {
		if !slices.ContainsFunc(listeners, func(l Listener) bool { return l.Name == name }) {
			return s.refuse("controller.listener.names", "Each must be a name of listeners ("+names(listeners)+"): "+name+" is not")
		}
	}
	addr := s.String("strata.http.listen")
	if _, ok := parseHostPort(addr); addr != "" && !ok {
		return s.refuse("strata.http.listen", "Value must be host:port with a port from 0 to 65535, or empty for none")
	}
	return nil
}

// checkQuorum refuses other controllers: a broker that took them for its own
// quorum would found a cluster beside theirs.
func (s *Static) checkQuorum() error {
	const setting = "controller.quorum.bootstrap.servers"
	listeners, err := s.Listeners()
	if err != nil {
		return err
	}
	servers := s.List(setting)
	for _, server := range servers {
		at, ok := parseHostPort(server)
		if !ok || at.Host == "" || at.Port == 0 {
			return s.refuse(setting, "Each entry must be host:port: "+server+" is not")
		}
		if len(servers) > 1 || !slices.ContainsFunc(listeners, func(l Listener) bool { return l.Port == at.Port }) {
			return s.refuse(setting, "A broker is its own and only controller: leave it out, or name one of this broker's listeners ("+names(listeners)+")")
		}
	}
	return nil
}

func parseHostPort(addr string) (Listener, bool) { return parseListener("X://" + addr) }

func (s *Static) checkLogDirs() error {
	name := "log.dirs"
	if _, ok := s.Lookup(name); !ok {
		name = "log.dir"
	}
	if dirs := s.List(name); len(dirs) != 1 {
		return s.refuse(name, fmt.Sprintf("One log directory a broker, not %d", len(dirs)))
	}
	return nil
}

// checkTiering checks what topics without overrides would have.
func (s *Static) checkTiering() error {
	if s.Bool("strata.remote.storage.enable") && s.String("strata.bucket.url") == "" {
		return s.refuse("strata.remote.storage.enable", "true needs a bucket: set strata.bucket.url")
	}
	return s.CheckBrokerConfig(EmptyImage(), s.String("node.id"), nil)
}

func (s *Static) checkGroups() error {
	const lower, upper = "group.min.session.timeout.ms", "group.max.session.timeout.ms"
	if s.Int(lower) > s.Int(upper) {
		return s.refuse(lower, "Value must not be more than that of "+upper+", "+s.String(upper))
	}
	return nil
}

// LogDir is the data directory of settings that Validate passed: log.dirs, else log.dir.
func (s *Static) LogDir() string {
	if dirs := s.List("log.dirs"); len(dirs) > 0 {
		return dirs[0]
	}
	return s.String("log.dir")
}
