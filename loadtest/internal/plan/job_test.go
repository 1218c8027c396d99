package plan_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/openova-io/bp-relay/loadtest/internal/plan"
	"github.com/openova-io/bp-relay/loadtest/internal/work"
)

// TestJob parses the manifest with Kubernetes' own types, which refuse unknown
// fields, and then reads the environment as a worker's pod does.
func TestJob(t *testing.T) {
	p, err := plan.Workers(parse(t, `
rooms: {count: 100, publishers: 2, subscribers: 98}
load: {warmup: 10s, hold: 2m}
target: {livekit: {url: "wss://livekit.example"}}
`), cost(t), machine)
	require.NoError(t, err)
	p.Run = "nightly-42"
	var b bytes.Buffer
	require.NoError(t, plan.Job(&b, p, "registry.example/relay-loadtest:1.2@sha256:abc"))
	var job batch.Job
	require.NoError(t, yaml.UnmarshalStrict(b.Bytes(), &job), b.String())

	require.Equal(t, "batch/v1", job.APIVersion)
	require.Equal(t, "Job", job.Kind)
	require.Equal(t, batch.IndexedCompletion, *job.Spec.CompletionMode)
	require.EqualValues(t, p.Workers, *job.Spec.Completions)
	require.EqualValues(t, p.Workers, *job.Spec.Parallelism)
	require.Zero(t, *job.Spec.BackoffLimitPerIndex)
	require.Zero(t, *job.Spec.MaxFailedIndexes)
	require.Greater(t, *job.Spec.ActiveDeadlineSeconds, int64(130))

	pod := job.Spec.Template.Spec
	require.Equal(t, core.RestartPolicyNever, pod.RestartPolicy, "backoffLimitPerIndex requires it")
	require.True(t, *pod.SecurityContext.RunAsNonRoot)
	require.False(t, *pod.AutomountServiceAccountToken)
	require.Equal(t, core.SeccompProfileTypeRuntimeDefault, pod.SecurityContext.SeccompProfile.Type)
	require.Equal(t, job.Spec.Template.Labels, pod.TopologySpreadConstraints[0].LabelSelector.MatchLabels)
	c := pod.Containers[0]
	require.True(t, *c.SecurityContext.ReadOnlyRootFilesystem)
	require.False(t, *c.SecurityContext.AllowPrivilegeEscalation)
	require.Equal(t, []core.Capability{"ALL"}, c.SecurityContext.Capabilities.Drop)
	require.Equal(t, c.Resources.Requests, c.Resources.Limits)
	require.EqualValues(t, 8, c.Resources.Requests.Cpu().Value())
	require.EqualValues(t, 16<<30, c.Resources.Requests.Memory().Value())
	volumes := map[string]bool{}
	for _, v := range pod.Volumes {
		volumes[v.Name] = true
	}
	for _, m := range c.VolumeMounts {
		require.True(t, volumes[m.Name])
	}

	// Kubernetes sets the index; secrets are only referenced.
	env := map[string]string{work.EnvJobIndex: "3"}
	for _, e := range c.Env {
		if e.ValueFrom == nil {
			env[e.Name] = e.Value
			continue
		}
		require.Empty(t, e.Value)
		env[e.Name] = e.ValueFrom.SecretKeyRef.Name + "/" + e.ValueFrom.SecretKeyRef.Key
	}
	w, err := work.Identity(func(k string) string { return env[k] })
	require.NoError(t, err)
	require.Equal(t, work.Worker{Index: 3, Count: p.Workers, Run: "nightly-42"}, w)
	require.Equal(t, work.Config{
		Store: "s3://relay-loadtest-s3/bucket", Endpoint: "relay-loadtest-s3/endpoint", Region: "relay-loadtest-s3/region",
		AccessKey: "relay-loadtest-s3/access-key", SecretKey: "relay-loadtest-s3/secret-key",
	}, work.FromEnv(func(k string) string { return env[k] }))
	require.Equal(t, "relay-loadtest-target/LIVEKIT_API_SECRET", env["LIVEKIT_API_SECRET"])
}

func TestJobRefuses(t *testing.T) {
	good := plan.Plan{Workers: 1, Run: "r", Machine: machine}
	require.NoError(t, plan.Job(io.Discard, good, "image"))
	for _, run := range []string{"", "A", "-a", "a.b", "a_b", "x\ny", "0123456789012345678901234567890123456789x"} {
		p := good
		p.Run = run
		require.ErrorIs(t, plan.Job(io.Discard, p, "image"), plan.ErrJob)
	}
	for _, image := range []string{"", "a b", "a\nb"} {
		require.ErrorIs(t, plan.Job(io.Discard, good, image), plan.ErrJob)
	}
	good.Workers = 0
	require.ErrorIs(t, plan.Job(io.Discard, good, "image"), plan.ErrJob)
}

// TestJobQuotes: a scenario's name cannot change the manifest.
func TestJobQuotes(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, plan.Job(&b, plan.Plan{Scenario: "a\nkind: Pod", Workers: 1, Run: "1", Machine: machine}, "image"))
	var job batch.Job
	require.NoError(t, yaml.UnmarshalStrict(b.Bytes(), &job))
	require.Equal(t, "1", job.Labels["relay-loadtest/run"], "a string, not a number")
}
