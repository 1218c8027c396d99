package app

import (
	"fmt"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"
)

// envPrefix begins the name of each variable that sets a key.
const envPrefix = "RELAY_"

// notConfig lists the RELAY_ variables that are not keys of the configuration.
func notConfig() []string { return []string{"RELAY_CONFIG", "RELAY_TOKEN", "RELAY_API"} }

// key is one key of Config.
type key struct {
	path, doc string
	kind      reflect.Kind
	duration  bool // such as "10s"; kind is reflect.Int64
	secret    bool
	def       string
}

// keys returns all keys of Config, by its tags.
func keys(c *Config) []key {
	var out []key
	var walk func(prefix string, v reflect.Value)
	walk = func(prefix string, v reflect.Value) {
		for i := range v.NumField() {
			f := v.Type().Field(i)
			tag := f.Tag.Get("koanf")
			if tag == "" {
				continue
			}
			if f.Type.Kind() == reflect.Struct {
				walk(prefix+tag+".", v.Field(i))
				continue
			}
			out = append(out, key{path: prefix + tag, doc: f.Tag.Get("doc"), kind: f.Type.Kind(), duration: f.Type == reflect.TypeFor[time.Duration](), secret: f.Type == reflect.TypeFor[Secret](), def: fmt.Sprint(v.Field(i).Interface())})
		}
	}
	walk("", reflect.ValueOf(c).Elem())
	return out
}

func (k key) env() string { return envPrefix + strings.ToUpper(strings.ReplaceAll(k.path, ".", "_")) }

// AddFlags adds a flag for each key, except for maps, which can only be set in
// the file. The help shows the defaults of base.
func AddFlags(fs *pflag.FlagSet, base Config) {
	c := base
	for _, k := range keys(&c) {
		switch k.kind {
		case reflect.Map:
		case reflect.Slice:
			fs.StringSlice(k.path, nil, fmt.Sprintf("%s (default %s, env %s)", k.doc, k.def, k.env()))
		default:
			text := fmt.Sprintf("%s (env %s)", k.doc, k.env())
			if k.secret {
				text = fmt.Sprintf("%s (here as file:/path only, env %s)", k.doc, k.env())
			}
			if k.def != "" && k.def != "0" && k.def != "false" {
				text = fmt.Sprintf("%s (default %s, env %s)", k.doc, k.def, k.env())
			}
			fs.String(k.path, "", text)
			fs.Lookup(k.path).DefValue = ""
			if k.kind == reflect.Bool {
				fs.Lookup(k.path).NoOptDefVal = "true"
			}
		}
	}
}

// Load returns base, overridden by the file (none if path is ""), the environment
// and the flags that were given (none if fs is nil), in this order. An unknown
// key is an error.
func Load(base Config, path string, fs *pflag.FlagSet) (Config, error) {
	k := koanf.New(".")
	if path != "" {
		if err := k.Load(file.Provider(path), yaml.Parser()); err != nil {
			return base, fmt.Errorf("read %s: %w", path, err)
		}
		if unknown := unknownKeys(k, &base); len(unknown) > 0 {
			return base, fmt.Errorf("%s: unknown keys: %s; see relay serve --help", path, strings.Join(unknown, ", "))
		}
	}
	if err := loadEnv(k, &base); err != nil {
		return base, err
	}
	if fs != nil {
		if err := loadFlags(k, &base, fs); err != nil {
			return base, err
		}
	}
	c := base
	err := k.UnmarshalWithConf("", &c, koanf.UnmarshalConf{Tag: "koanf", DecoderConfig: &mapstructure.DecoderConfig{
		ErrorUnused: true, WeaklyTypedInput: true, Result: &c, TagName: "koanf",
		DecodeHook: mapstructure.StringToTimeDurationHookFunc(),
	}})
	if err != nil {
		return base, fmt.Errorf("configuration: %w", err)
	}
	return c, nil
}

// unknownKeys returns the keys that Config does not have. Any key below a map is
// known.
func unknownKeys(k *koanf.Koanf, c *Config) []string {
	known := keys(c)
	return slices.DeleteFunc(k.Keys(), func(path string) bool {
		return slices.ContainsFunc(known, func(key key) bool {
			return path == key.path || strings.HasPrefix(key.path, path+".") ||
				key.kind == reflect.Map && strings.HasPrefix(path, key.path+".")
		})
	})
}

func loadEnv(k *koanf.Koanf, c *Config) error {
	known := make(map[string]key)
	for _, key := range keys(c) {
		known[key.env()] = key
	}
	for _, pair := range os.Environ() {
		name, value, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, envPrefix) || slices.Contains(notConfig(), name) {
			continue
		}
		key, ok := known[name]
		if !ok || key.kind == reflect.Map {
			return fmt.Errorf("environment: %s is not a key; see relay serve --help", name)
		}
		if err := set(k, key, value); err != nil {
			return fmt.Errorf("environment: %w", err)
		}
	}
	return nil
}

func loadFlags(k *koanf.Koanf, c *Config, fs *pflag.FlagSet) error {
	for _, key := range keys(c) {
		f := fs.Lookup(key.path)
		if f == nil || !f.Changed {
			continue
		}
		value := f.Value.String()
		if key.secret && !speakable(value) {
			return fmt.Errorf("flag: --%s: every user of this machine can read a command line; give file:/path, or set %s", key.path, key.env())
		}
		if key.kind == reflect.Slice {
			value = strings.Trim(value, "[]")
		}
		if err := set(k, key, value); err != nil {
			return fmt.Errorf("flag: %w", err)
		}
	}
	return nil
}

// speakable reports whether a secret's value may stand on a command line: it
// names a file, or is the URL of a server that asks for no password.
func speakable(value string) bool {
	if value == "" || strings.HasPrefix(value, "file:") {
		return true
	}
	u, err := url.Parse(value)
	if err != nil || u.Host == "" {
		return false
	}
	_, has := u.User.Password()
	return !has && !u.Query().Has("password")
}

// set parses a value by the kind of its key.
func set(k *koanf.Koanf, key key, value string) error {
	var v any = value
	var err error
	switch key.kind {
	case reflect.Slice:
		v = strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' })
	case reflect.Bool:
		v, err = strconv.ParseBool(value)
	case reflect.Int:
		v, err = strconv.Atoi(value)
	case reflect.Int64:
		if key.duration {
			v, err = time.ParseDuration(value)
		} else {
			v, err = strconv.ParseInt(value, 10, 64)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", key.path, err)
	}
	return k.Set(key.path, v)
}
