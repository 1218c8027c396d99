package app

import (
	"fmt"
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

// envPrefix is before every variable that configures us.
const envPrefix = "RELAY_"

// notConfig are RELAY_ variables that are not keys of the configuration.
func notConfig() []string { return []string{"RELAY_CONFIG", "RELAY_TOKEN", "RELAY_API"} }

// key is one leaf of Config.
type key struct {
	path, doc string
	kind      reflect.Kind
	def       string
}

// keys walks Config's tags.
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
			out = append(out, key{path: prefix + tag, doc: f.Tag.Get("doc"), kind: f.Type.Kind(), def: fmt.Sprint(v.Field(i).Interface())})
		}
	}
	walk("", reflect.ValueOf(c).Elem())
	return out
}

func (k key) env() string { return envPrefix + strings.ToUpper(strings.ReplaceAll(k.path, ".", "_")) }

// AddFlags adds a flag for every key but maps, which only the file holds. Help
// shows the defaults of base.
func AddFlags(fs *pflag.FlagSet, base Config) {
	c := base
	for _, k := range keys(&c) {
		switch k.kind {
		case reflect.Map:
		case reflect.Slice:
			fs.StringSlice(k.path, nil, fmt.Sprintf("%s (default %s, env %s)", k.doc, k.def, k.env()))
		default:
			text := fmt.Sprintf("%s (env %s)", k.doc, k.env())
			if k.def != "" && k.def != "0" {
				text = fmt.Sprintf("%s (default %s, env %s)", k.doc, k.def, k.env())
			}
			fs.String(k.path, "", text)
			fs.Lookup(k.path).DefValue = ""
		}
	}
}

// Load reads the file (none where path is ""), the environment and the flags
// that were given, in this order. An unknown key anywhere is an error.
func Load(base Config, path string, fs *pflag.FlagSet) (Config, error) {
	k := koanf.New(".")
	if path != "" {
		if err := k.Load(file.Provider(path), yaml.Parser()); err != nil {
			return base, fmt.Errorf("read %s: %w", path, err)
		}
		if unknown := unknownKeys(k, &base); len(unknown) > 0 {
			return base, fmt.Errorf("%s: not a key of ours: %s; see relay serve --help", path, strings.Join(unknown, ", "))
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

// unknownKeys are those that Config does not have; below a map, every key is
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
			return fmt.Errorf("environment: %s is not a key of ours; see relay serve --help", name)
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
		if key.kind == reflect.Slice {
			value = strings.Trim(value, "[]")
		}
		if err := set(k, key, value); err != nil {
			return fmt.Errorf("flag: %w", err)
		}
	}
	return nil
}

// set parses a text value by the key's kind.
func set(k *koanf.Koanf, key key, value string) error {
	var v any = value
	var err error
	switch key.kind {
	case reflect.Slice:
		v = strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' })
	case reflect.Int64:
		if key.path == "shutdown" {
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
