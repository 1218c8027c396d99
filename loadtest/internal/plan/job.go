package plan

import (
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/openova-io/bp-relay/loadtest/internal/work"
)

// The Kubernetes objects that a job needs in its namespace.
const (
	ScenarioConfigMap = "relay-loadtest-scenario" // key scenario.yaml
	StoreSecret       = "relay-loadtest-s3"       // keys endpoint, bucket, access-key, secret-key, optional region
	TargetSecret      = "relay-loadtest-target"   // a key for each variable that the scenario names
)

// ErrJob is returned if the plan or the image does not make a valid job.
var ErrJob = errors.New("plan: job")

// jobRun restricts a run's id: the job is named after it, and with "-99999"
// appended, a pod's host name must be a DNS label.
var jobRun = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`)

// Job writes the plan as a Kubernetes Indexed Job (batch/v1, Kubernetes 1.33 or
// newer): one pod per worker, each once, all at the same time. A pod that fails
// makes the job fail at once, since its part is lost. Plan.Run must be 1 to 40
// lower-case letters, digits and "-", and start and end with a letter or digit;
// otherwise the error is ErrJob.
func Job(w io.Writer, p Plan, image string) error {
	switch {
	case !jobRun.MatchString(p.Run):
		return fmt.Errorf("%w: run id %q: want 1 to 40 lower-case letters, digits and '-'", ErrJob, p.Run)
	case image == "" || strings.ContainsAny(image, " \t\r\n"):
		return fmt.Errorf("%w: image %q", ErrJob, image)
	case p.Workers < 1 || p.Workers > work.MaxWorkers:
		return fmt.Errorf("%w: %d workers", ErrJob, p.Workers)
	}
	_, err := fmt.Fprintf(w, `# %d workers for %q, run %s. Before applying it:
#   kubectl create configmap %s --from-file=scenario.yaml=SCENARIO.yaml
#   kubectl create secret generic %s --from-literal=endpoint=URL --from-literal=bucket=NAME --from-literal=access-key=... --from-literal=secret-key=...
#   kubectl create secret generic %s --from-env-file=TARGET.env    # %s
# After it, on a machine that reaches the bucket: relay-loadtest report merge --run %s
`, p.Workers, p.Scenario, p.Run, ScenarioConfigMap, StoreSecret, TargetSecret, strings.Join(append([]string{"variables of the target's secrets:"}, p.Env...), " "), p.Run)
	if err != nil {
		return fmt.Errorf("write job: %w", err)
	}
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(p.job(image)); err != nil {
		return fmt.Errorf("write job: %w", err)
	}
	return enc.Close()
}

// kv is a mapping in a fixed order; yaml.v3 sorts the keys of maps, which would
// put a container's image after its environment.
type kv []any

// MarshalYAML implements yaml.Marshaler.
func (m kv) MarshalYAML() (any, error) {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for i := 0; i < len(m); i += 2 {
		key, value := new(yaml.Node), new(yaml.Node)
		if err := errors.Join(key.Encode(m[i]), value.Encode(m[i+1])); err != nil {
			return nil, err
		}
		n.Content = append(n.Content, key, value)
	}
	return n, nil
}

func (p Plan) job(image string) kv {
	labels := kv{"app.kubernetes.io/name", "relay-loadtest", "relay-loadtest/run", p.Run}
	return kv{
		"apiVersion", "batch/v1",
		"kind", "Job",
		"metadata", kv{"name", "relay-loadtest-" + p.Run, "labels", labels},
		"spec", kv{
			"completionMode", "Indexed",
			"completions", p.Workers,
			"parallelism", p.Workers,
			"backoffLimitPerIndex", 0,
			"maxFailedIndexes", 0,
			// The time for image pulls, the barrier of all workers, the run, and
			// the upload.
			"activeDeadlineSeconds", int(math.Ceil(p.Seconds)) + 15*60,
			"ttlSecondsAfterFinished", 24 * 3600,
			"template", kv{"metadata", kv{"labels", labels}, "spec", p.pod(image, labels)},
		},
	}
}

func (p Plan) pod(image string, labels kv) kv {
	return kv{
		"restartPolicy", "Never",
		"automountServiceAccountToken", false,
		"enableServiceLinks", false,
		"terminationGracePeriodSeconds", 60,
		"securityContext", kv{
			"runAsNonRoot", true, "runAsUser", 65532, "runAsGroup", 65532, "fsGroup", 65532,
			"seccompProfile", kv{"type", "RuntimeDefault"},
		},
		// Two workers on one node would share its network card and its
		// processors.
		"topologySpreadConstraints", []kv{{
			"maxSkew", 1, "topologyKey", "kubernetes.io/hostname", "whenUnsatisfiable", "ScheduleAnyway",
			"labelSelector", kv{"matchLabels", labels},
		}},
		"containers", []kv{{
			"name", "worker",
			"image", image,
			"args", []string{"run", "/etc/relay-loadtest/scenario.yaml"},
			"env", p.environment(),
			"resources", kv{"requests", p.resources(), "limits", p.resources()},
			"securityContext", kv{
				"allowPrivilegeEscalation", false, "readOnlyRootFilesystem", true,
				"capabilities", kv{"drop", []string{"ALL"}},
			},
			"volumeMounts", []kv{
				{"name", "scenario", "mountPath", "/etc/relay-loadtest", "readOnly", true},
				{"name", "scratch", "mountPath", "/var/cache/relay-loadtest"},
				{"name", "scratch", "mountPath", "/tmp", "subPath", "tmp"},
			},
		}},
		"volumes", []kv{
			{"name", "scenario", "configMap", kv{"name", ScenarioConfigMap}},
			{"name", "scratch", "emptyDir", kv{"sizeLimit", "4Gi"}},
		},
	}
}

// resources are the same for requests and limits, in whole processors: the
// kubelet's static policy then gives each worker its own processors, and no quota
// throttles it in the middle of a frame.
func (p Plan) resources() kv {
	return kv{
		"cpu", strconv.Itoa(int(math.Ceil(p.Machine.Cores))),
		"memory", fmt.Sprintf("%dMi", (p.Machine.Memory+1<<20-1)>>20),
	}
}

func (p Plan) environment() []kv {
	plain := func(name, value string) kv { return kv{"name", name, "value", value} }
	secret := func(name, from, key string, optional bool) kv {
		ref := kv{"name", from, "key", key}
		if optional {
			ref = append(ref, "optional", true)
		}
		return kv{"name", name, "valueFrom", kv{"secretKeyRef", ref}}
	}
	// Kubernetes itself sets JOB_COMPLETION_INDEX.
	env := []kv{
		plain(work.EnvRun, p.Run),
		plain(work.EnvWorkers, strconv.Itoa(p.Workers)),
		plain("GOMEMLIMIT", fmt.Sprintf("%dMiB", p.Machine.Memory*9/10>>20)),
		plain("HOME", "/tmp"),
		plain("XDG_CACHE_HOME", "/var/cache/relay-loadtest"),
		secret(work.EnvEndpoint, StoreSecret, "endpoint", false),
		secret(work.EnvBucket, StoreSecret, "bucket", false),
		secret(work.EnvRegion, StoreSecret, "region", true),
		secret(work.EnvAccessKey, StoreSecret, "access-key", false),
		secret(work.EnvSecretKey, StoreSecret, "secret-key", false),
	}
	for _, name := range p.Env {
		// A TURN server has a credential or a secret, and the scenario may name
		// both.
		env = append(env, secret(name, TargetSecret, name, true))
	}
	return env
}
