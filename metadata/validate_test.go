package metadata_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stratabroker/strata/metadata"
)

func TestSettingsThatContradictAreRefusedWithKeyValueAndWhatIsAllowed(t *testing.T) {
	for name, tc := range map[string]struct {
		pairs []string
		want  []string // all within the error
	}{
		"role broker only":          {[]string{"process.roles", "broker"}, []string{"process.roles", "broker,controller"}},
		"role controller only":      {[]string{"process.roles", "controller"}, []string{"process.roles", "broker,controller"}},
		"no listener":               {[]string{"listeners", ","}, []string{"listeners", "NAME://host:port"}},
		"listener without a name":   {[]string{"listeners", "127.0.0.1:9092"}, []string{"127.0.0.1:9092", "NAME://host:port"}},
		"listener with a port name": {[]string{"listeners", "PLAINTEXT://h:kafka"}, []string{"PLAINTEXT://h:kafka", "0 to 65535"}},
		"port beyond the range":     {[]string{"listeners", "PLAINTEXT://h:65536"}, []string{"PLAINTEXT://h:65536", "0 to 65535"}},
		"host with a slash":         {[]string{"listeners", "PLAINTEXT://h/x:1"}, []string{"PLAINTEXT://h/x:1", "NAME://host:port"}},
		"IPv6 without brackets":     {[]string{"listeners", "PLAINTEXT://::1:9092"}, []string{"PLAINTEXT://::1:9092", "NAME://host:port"}},
		"IPv6 bracket not closed":   {[]string{"listeners", "PLAINTEXT://[::1:9092"}, []string{"NAME://host:port"}},
		"two of one name":           {[]string{"listeners", "PLAINTEXT://:1,plaintext://:2"}, []string{"PLAINTEXT is there twice"}},
		"two of one port": {
			[]string{"listeners", "PLAINTEXT://:1,B://:1", "listener.security.protocol.map", "B:PLAINTEXT"}, []string{"1 is there twice"},
		},
		"TLS":             {[]string{"listeners", "SSL://:9092"}, []string{"listeners", "SSL", "only PLAINTEXT"}},
		"SASL by the map": {[]string{"listeners", "A://:9092", "listener.security.protocol.map", "A:SASL_SSL"}, []string{"SASL_SSL of A", "only PLAINTEXT"}},
		"name without protocol": {
			[]string{"listeners", "A://:9092"}, []string{"A must be a security protocol", "listener.security.protocol.map"},
		},
		"map with an unknown protocol":    {[]string{"listener.security.protocol.map", "A:TLS"}, []string{"listener.security.protocol.map", "A:TLS is not", "PLAINTEXT, SSL"}},
		"map without a colon":             {[]string{"listener.security.protocol.map", "A"}, []string{"NAME:PROTOCOL"}},
		"only controllers":                {[]string{"listeners", "C://:9093", "controller.listener.names", "C"}, []string{"listeners", "not in controller.listener.names"}},
		"controller listener is missing":  {[]string{"controller.listener.names", "CONTROLLER"}, []string{"controller.listener.names", "CONTROLLER is not"}},
		"advertised name is not listened": {[]string{"advertised.listeners", "B://h:1", "listener.security.protocol.map", "B:PLAINTEXT"}, []string{"advertised.listeners", "(PLAINTEXT)", "B is not"}},
		"advertised twice":                {[]string{"advertised.listeners", "PLAINTEXT://h:1,PLAINTEXT://i:1"}, []string{"PLAINTEXT is there twice"}},
		"advertised everywhere":           {[]string{"advertised.listeners", "PLAINTEXT://0.0.0.0:9092"}, []string{"0.0.0.0 is no address"}},
		"advertised everywhere, IPv6":     {[]string{"advertised.listeners", "PLAINTEXT://[::]:9092"}, []string{":: is no address"}},
		"advertised for controllers only": {
			[]string{"listeners", "PLAINTEXT://:1,C://:2", "controller.listener.names", "C", "advertised.listeners", "C://h:2"},
			[]string{"advertised.listeners", "not in controller.listener.names"},
		},
		"listens everywhere, tells nobody": {[]string{"listeners", "PLAINTEXT://0.0.0.0:9092"}, []string{"advertised.listeners", "0.0.0.0"}},
		"HTTP without a port":              {[]string{"strata.http.listen", "localhost"}, []string{"strata.http.listen", "localhost", "host:port"}},
		"bootstrap server without a port":  {[]string{"controller.quorum.bootstrap.servers", "b"}, []string{"b is not", "host:port"}},
		"bootstrap server elsewhere":       {[]string{"controller.quorum.bootstrap.servers", "b:1"}, []string{"b:1", "own and only controller"}},
		"several controllers":              {[]string{"controller.quorum.bootstrap.servers", "a:9092,b:9092"}, []string{"a:9092,b:9092", "own and only controller"}},
		"bootstrap server without a host":  {[]string{"controller.quorum.bootstrap.servers", ":1"}, []string{":1 is not"}},
		"several log directories":          {[]string{"log.dirs", "/a,/b"}, []string{"log.dirs", "/a,/b", "One log directory", "not 2"}},
		"no log directory":                 {[]string{"log.dirs", " "}, []string{"log.dirs", "not 0"}},
		"tiering without a bucket":         {[]string{"strata.remote.storage.enable", "true"}, []string{"strata.remote.storage.enable", "strata.bucket.url"}},
		"local beyond total retention": {
			[]string{"strata.bucket.url", "dir:///b", "log.retention.ms", "1000", "log.local.retention.ms", "2000"}, []string{"log.local.retention.ms", "2000", "1000"},
		},
		"session timeouts crossed": {
			[]string{"group.min.session.timeout.ms", "10", "group.max.session.timeout.ms", "9"}, []string{"group.min.session.timeout.ms", "10", "9"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := static(t, tc.pairs...).Validate()
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
					t.Errorf("%q: want one line with %q", err, want)
				}
			}
		})
	}
}

func TestNodeIDIsRequired(t *testing.T) {
	s, _, err := metadata.NewStatic()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(); err == nil || !strings.Contains(err.Error(), "node.id") {
		t.Errorf("got %v, want a line that names node.id", err)
	}
}

func TestListenersAndWhatClientsAreTold(t *testing.T) {
	for name, tc := range map[string]struct {
		pairs                 []string
		listeners, advertised string
	}{
		"defaults":   {nil, "[PLAINTEXT://:9092]", "[PLAINTEXT://:9092]"},
		"lower case": {[]string{"listeners", "plaintext://localhost:0"}, "[PLAINTEXT://localhost:0]", "[PLAINTEXT://localhost:0]"},
		"IPv6":       {[]string{"listeners", "PLAINTEXT://[::1]:9092"}, "[PLAINTEXT://[::1]:9092]", "[PLAINTEXT://[::1]:9092]"},
		"everywhere, told one address": {
			[]string{"listeners", "PLAINTEXT://0.0.0.0:9092", "advertised.listeners", "PLAINTEXT://b1.example:19092"},
			"[PLAINTEXT://0.0.0.0:9092]", "[PLAINTEXT://b1.example:19092]",
		},
		"inside and outside": {
			[]string{"listeners", "IN://:9092, OUT://:9094", "listener.security.protocol.map", "in:PLAINTEXT, OUT:plaintext", "advertised.listeners", "IN://b1:9092,OUT://example.com:443"},
			"[IN://:9092 OUT://:9094]", "[IN://b1:9092 OUT://example.com:443]",
		},
		"controllers are not told": {
			[]string{"listeners", "PLAINTEXT://b1:9092,CONTROLLER://b1:9093", "controller.listener.names", "CONTROLLER", "process.roles", "controller, broker"},
			"[PLAINTEXT://b1:9092 CONTROLLER://b1:9093]", "[PLAINTEXT://b1:9092]",
		},
		"one port on IPv4 and IPv6": {
			[]string{"listeners", "A://127.0.0.1:1,B://[::1]:1", "listener.security.protocol.map", "A:PLAINTEXT,B:PLAINTEXT"},
			"[A://127.0.0.1:1 B://[::1]:1]", "[A://127.0.0.1:1 B://[::1]:1]",
		},
		"two ports chosen by the system": {
			[]string{"listeners", "A://h:0,B://h:0", "listener.security.protocol.map", "A:PLAINTEXT,B:PLAINTEXT"},
			"[A://h:0 B://h:0]", "[A://h:0 B://h:0]",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := static(t, tc.pairs...)
			if err := s.Validate(); err != nil {
				t.Fatal(err)
			}
			listeners, err := s.Listeners()
			if err != nil || fmt.Sprint(listeners) != tc.listeners {
				t.Errorf("listeners %v, %v; want %s", listeners, err, tc.listeners)
			}
			advertised, err := s.Advertised()
			if err != nil || fmt.Sprint(advertised) != tc.advertised {
				t.Errorf("advertised %v, %v; want %s", advertised, err, tc.advertised)
			}
			for _, l := range listeners {
				if l.Protocol != "PLAINTEXT" {
					t.Errorf("%v has protocol %q", l, l.Protocol)
				}
			}
		})
	}
}

// TestAFileAsKafkaShipsItStarts uses the keys of the server.properties that
// Kafka 4 comes with for a combined node.
func TestAFileAsKafkaShipsItStarts(t *testing.T) {
	file, err := metadata.ReadProperties(strings.NewReader(`
# Licensed to whom it may concern
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=localhost:9093
listeners=PLAINTEXT://:9092,CONTROLLER://:9093
inter.broker.listener.name=PLAINTEXT
advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600
log.dirs=/tmp/kraft-combined-logs
num.partitions=1
num.recovery.threads.per.data.dir=1
offsets.topic.replication.factor=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
log.retention.hours=168
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
`))
	if err != nil {
		t.Fatal(err)
	}
	s, ignored, err := metadata.NewStatic(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(ignored, "num.io.threads") {
		t.Errorf("ignored are %v: num.io.threads is not among them", ignored)
	}
	advertised, err := s.Advertised()
	if err != nil || fmt.Sprint(advertised) != "[PLAINTEXT://localhost:9092]" {
		t.Errorf("clients are told %v, %v", advertised, err)
	}
}

func TestLogDirsGoesBeforeLogDir(t *testing.T) {
	for want, s := range map[string]*metadata.Static{
		"/tmp/kafka-logs": static(t),
		"/a":              static(t, "log.dir", "/a"),
		"/b":              static(t, "log.dir", "/a", "log.dirs", " /b "),
	} {
		if err := s.Validate(); err != nil || s.LogDir() != want {
			t.Errorf("log directory %q, %v; want %q", s.LogDir(), err, want)
		}
	}
}
