package minio

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"
)

const (
	image      = "strata-test-minio"
	hostLabel  = "strata.test.host" // with pidLabel: the test process that started the container
	pidLabel   = "strata.test.pid"
	dockerfile = "FROM scratch\nCOPY minio /minio\nENTRYPOINT [\"/minio\"]\n"
)

// engineAnswers tells whether a Docker engine can be used.
func engineAnswers(ctx context.Context) bool {
	// The reaper and the classic host detection need images and routes that a
	// bare machine does not have.
	for name, value := range map[string]string{
		"TESTCONTAINERS_RYUK_DISABLED": "true", "TESTCONTAINERS_HOST_OVERRIDE": "127.0.0.1", "DOCKER_BUILDKIT": "0",
	} {
		if os.Getenv(name) == "" {
			_ = os.Setenv(name, value) // fails for malformed names only
		}
	}
	if !socketAnswers(ctx) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	provider, err := testcontainers.NewDockerProvider(testcontainers.WithLogger(quiet{}))
	if err != nil {
		return false
	}
	defer func() { _ = provider.Close() }()
	return provider.Health(ctx) == nil
}

// socketAnswers spares testcontainers' search for an engine where there is none.
func socketAnswers(ctx context.Context) bool {
	sockets := []string{"/var/run/docker.sock", filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "docker.sock")}
	if host := os.Getenv("DOCKER_HOST"); host != "" {
		path, unix := strings.CutPrefix(host, "unix://")
		if !unix {
			return true
		}
		sockets = []string{path}
	}
	dialer := net.Dialer{Timeout: 2 * time.Second}
	for _, socket := range sockets {
		if conn, err := dialer.DialContext(ctx, "unix", socket); err == nil {
			_ = conn.Close()
			return true
		}
	}
	return false
}

func (s *Server) startContainer(ctx context.Context, path string) error {
	request := testcontainers.ContainerRequest{
		Cmd:          []string{"server", "--address", ":9000", "--quiet", "/data"},
		Env:          s.environment(),
		ExposedPorts: []string{"9000/tcp"},
		Labels:       map[string]string{hostLabel: hostname(), pidLabel: strconv.Itoa(os.Getpid())},
		WaitingFor:   wait.ForHTTP(readyPath).WithPort("9000/tcp").WithPollInterval(20 * time.Millisecond),
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	// The image outlives the test: copying the server into it takes seconds.
	tag := fmt.Sprintf("%s-%d", version[strings.LastIndex(version, "-")+1:], info.Size())
	there, err := prepare(ctx, image+":"+tag)
	if err != nil {
		return err
	}
	if there {
		request.Image = image + ":" + tag
	} else {
		context, err := buildContext(path, info.Size())
		if err != nil {
			return err
		}
		defer func() {
			_ = context.Close()
			_ = os.Remove(context.Name())
		}()
		request.FromDockerfile = testcontainers.FromDockerfile{ContextArchive: context, Repo: image, Tag: tag, KeepImage: true}
	}
	container, err := testcontainers.GenericContainer(ctx, testcontainers.GenericContainerRequest{
		ContainerRequest: request, Started: true, Logger: quiet{},
	})
	s.stop = func(ctx context.Context) error {
		if container == nil {
			return nil
		}
		return container.Terminate(ctx, testcontainers.StopTimeout(0))
	}
	if err != nil {
		_ = s.Stop() // the first error tells more
		return err
	}
	s.Kind = "container"
	if s.Endpoint, err = container.PortEndpoint(ctx, "9000/tcp", "http"); err != nil {
		_ = s.Stop()
	}
	return err
}

// prepare removes what tests of this machine left that died without stopping
// their server (nothing else does, without a reaper), and tells whether the
// image is there.
func prepare(ctx context.Context, name string) (bool, error) {
	provider, err := testcontainers.NewDockerProvider(testcontainers.WithLogger(quiet{}))
	if err != nil {
		return false, err
	}
	defer func() { _ = provider.Close() }()
	engine := provider.Client()
	left, err := engine.ContainerList(ctx, client.ContainerListOptions{
		All: true, Filters: make(client.Filters).Add("label", hostLabel+"="+hostname()),
	})
	if err != nil {
		return false, err
	}
	for _, c := range left.Items {
		pid, err := strconv.Atoi(c.Labels[pidLabel])
		if err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			// Another test may be removing it too.
			_, _ = engine.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
		}
	}
	images, err := provider.ListImages(ctx)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(images, func(i testcontainers.ImageInfo) bool { return i.Name == name }), nil
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}

// buildContext is a temporary file: the archive of the image's Dockerfile and server.
func buildContext(path string, size int64) (_ *os.File, err error) {
	server, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = server.Close() }()
	file, err := os.CreateTemp("", "strata-minio-image-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = file.Close()
			_ = os.Remove(file.Name())
		}
	}()
	w := tar.NewWriter(file)
	if err := w.WriteHeader(&tar.Header{Name: "Dockerfile", Mode: 0o644, Size: int64(len(dockerfile))}); err != nil {
		return nil, err
	}
	if _, err := io.WriteString(w, dockerfile); err != nil {
		return nil, err
	}
	if err := w.WriteHeader(&tar.Header{Name: "minio", Mode: 0o755, Size: size}); err != nil {
		return nil, err
	}
	if _, err := io.Copy(w, server); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	_, err = file.Seek(0, io.SeekStart)
	return file, err
}

// quiet drops testcontainers' log.
type quiet struct{}

func (quiet) Printf(string, ...any) {}
