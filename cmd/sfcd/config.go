package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// defaultFile is read when it is there and no other is named.
const defaultFile = "/etc/sfc/sfcd.yaml"

// config is how the daemon runs. Each field is a flag as well.
type config struct {
	DataDir   string   `yaml:"dataDir" json:"dataDir"`
	RunDir    string   `yaml:"runDir" json:"runDir"`
	Listen    []string `yaml:"listen" json:"listen"`
	TLSCert   string   `yaml:"tlsCert" json:"tlsCert,omitzero"`
	TLSKey    string   `yaml:"tlsKey" json:"tlsKey,omitzero"`
	User      string   `yaml:"user" json:"user,omitzero"`
	Workers   int      `yaml:"workers" json:"workers,omitzero"`
	Cores     []int    `yaml:"cores" json:"cores,omitzero"`
	LogFormat string   `yaml:"logFormat" json:"logFormat,omitzero"`
	LogLevel  string   `yaml:"logLevel" json:"logLevel,omitzero"`
	Traces    string   `yaml:"traces" json:"traces,omitzero"`
	// Interfaces are patterns of those that ports may be on. None: all.
	Interfaces []string `yaml:"interfaces" json:"interfaces,omitzero"`
	// Watchdog is how long workers may stand still; 0: for ever.
	Watchdog time.Duration `yaml:"watchdog" json:"watchdog"`
	// Dev is all in one place for a laptop: temporary data, the user who starts
	// it, nothing that outlives it for long.
	Dev bool `yaml:"-" json:"dev,omitzero"`

	temporary bool // DataDir is to go at the end
}

func defaults() config {
	return config{
		DataDir: "/var/lib/sfc", RunDir: "/run/sfc", Listen: []string{"unix:///run/sfc/sfcd.sock"},
		Workers: 1, LogFormat: "text", LogLevel: "info", Watchdog: 2 * time.Second,
	}
}

// flags adds a flag for every field, with c's values as defaults.
func (c *config) flags(f *pflag.FlagSet) {
	f.StringVar(&c.DataDir, "data-dir", c.DataDir, "where tenants, chains and modules are kept")
	f.StringVar(&c.RunDir, "run-dir", c.RunDir, "where sockets between the daemon's processes are")
	f.StringArrayVar(&c.Listen, "listen", c.Listen, "where the API is: unix:///PATH or https://HOST:PORT; may be repeated")
	f.StringVar(&c.TLSCert, "tls-cert", c.TLSCert, "certificate for https, a PEM file")
	f.StringVar(&c.TLSKey, "tls-key", c.TLSKey, "its private key, a PEM file")
	f.StringVar(&c.User, "user", c.User, "user that control and data plane run as (default: sfc, or nobody where there is none)")
	f.IntVar(&c.Workers, "workers", c.Workers, "number of workers")
	f.IntSliceVar(&c.Cores, "cores", c.Cores, "cores that workers are pinned to, one each (default: the last ones)")
	f.StringVar(&c.LogFormat, "log-format", c.LogFormat, "text or json")
	f.StringVar(&c.LogLevel, "log-level", c.LogLevel, "debug, info, warn or error")
	f.StringSliceVar(&c.Interfaces, "interfaces", c.Interfaces, "patterns of interfaces that ports may be on, such as eth1,enp* (default: all)")
	f.StringVar(&c.Traces, "traces", c.Traces, "OpenTelemetry collector for traces of control operations, such as http://localhost:4318")
	f.DurationVar(&c.Watchdog, "watchdog", c.Watchdog, "how long a worker may stand still before the data plane is killed and started again; 0: for ever")
	f.BoolVar(&c.Dev, "dev", c.Dev, "all in one for a laptop or CI: temporary data unless --data-dir says where, and the user who starts it")
}

// load reads a file over c. Without a name it is the default one, which may be
// absent.
func (c *config) load(name string) error {
	asked := name != ""
	if !asked {
		name = defaultFile
	}
	text, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) && !asked {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("configuration %s: %w", name, err)
	}
	return nil
}

// validate checks what the processes rely on.
func (c *config) validate() error {
	switch {
	case !filepath.IsAbs(c.DataDir) || !filepath.IsAbs(c.RunDir):
		return fmt.Errorf("data directory %q and run directory %q: want absolute paths", c.DataDir, c.RunDir)
	case len(c.RunDir) > 70:
		return fmt.Errorf("run directory %q is longer than 70 bytes: sockets in it could not be bound", c.RunDir)
	case len(c.Listen) == 0:
		return errors.New("nothing to listen on: name an address with --listen")
	case c.Workers < 1 || c.Workers > 64:
		return fmt.Errorf("%d workers: want 1 to 64", c.Workers)
	case len(c.Cores) > 0 && len(c.Cores) != c.Workers:
		return fmt.Errorf("%d cores for %d workers: name one for each", len(c.Cores), c.Workers)
	case c.LogFormat != "text" && c.LogFormat != "json":
		return fmt.Errorf("log format %q: want text or json", c.LogFormat)
	case c.Watchdog != 0 && c.Watchdog < 100*time.Millisecond:
		return fmt.Errorf("watchdog %v: want at least 100ms, or 0 for none", c.Watchdog)
	case (c.TLSCert == "") != (c.TLSKey == ""):
		return errors.New("a TLS certificate and its key go together: name both")
	}
	for _, pattern := range c.Interfaces {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("pattern %q of interfaces: %w", pattern, err)
		}
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return fmt.Errorf("log level %q: want debug, info, warn or error", c.LogLevel)
	}
	return nil
}

// logger returns the log of a process in a role.
func (c *config) logger(role string) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.LogLevel)) // validate has done it
	o := &slog.HandlerOptions{Level: level}
	var h slog.Handler = slog.NewTextHandler(os.Stderr, o)
	if c.LogFormat == "json" {
		h = slog.NewJSONHandler(os.Stderr, o)
	}
	return slog.New(h).With("process", role)
}

// configVariable is how a child gets the configuration of its supervisor.
const configVariable = "SFCD_CONFIG"

func (c *config) environment() (string, error) {
	text, err := json.Marshal(c)
	return configVariable + "=" + string(text), err
}

// inherited returns the supervisor's configuration.
func inherited() (config, error) {
	var c config
	text := os.Getenv(configVariable)
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return c, fmt.Errorf("%s is not set as sfcd sets it: %w", configVariable, err)
	}
	return c, nil
}
