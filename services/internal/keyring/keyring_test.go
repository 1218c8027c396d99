package keyring_test

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/internal/keyring"
)

func TestSecretsDecryptOnlyInTheirContext(t *testing.T) {
	k, err := keyring.New(bytes.Repeat([]byte{7}, 32))
	require.NoError(t, err)
	ciphertext, err := k.Encrypt("orgs/acme/captures/1", []byte("identity"))
	require.NoError(t, err)
	plain, err := k.Decrypt("orgs/acme/captures/1", ciphertext)
	require.NoError(t, err)
	require.Equal(t, "identity", string(plain))

	_, err = k.Decrypt("orgs/acme/captures/2", ciphertext)
	require.ErrorIs(t, err, keyring.ErrDecrypt)
	for i := range ciphertext {
		bad := bytes.Clone(ciphertext)
		bad[i] ^= 1
		_, err := k.Decrypt("orgs/acme/captures/1", bad)
		require.ErrorIs(t, err, keyring.ErrDecrypt)
	}
	for n := range len(ciphertext) {
		_, err := k.Decrypt("orgs/acme/captures/1", ciphertext[:n])
		require.ErrorIs(t, err, keyring.ErrDecrypt)
	}
}

func TestKeysDifferByPurpose(t *testing.T) {
	k, err := keyring.New(bytes.Repeat([]byte{7}, 32))
	require.NoError(t, err)
	require.NotEqual(t, k.Key("a", 32), k.Key("b", 32))
	require.Equal(t, k.Key("a", 32), k.Key("a", 32))
	require.NotEqual(t, k.Ed25519("a"), k.Ed25519("b"))
}

func TestProcessesThatStartTogetherShareOneKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data", "master.key")
	var wg sync.WaitGroup
	got := make([]string, 8)
	for i := range got {
		wg.Go(func() {
			k, err := keyring.Load(path)
			if err == nil {
				got[i] = string(k.Key("x", 32))
			}
		})
	}
	wg.Wait()
	for _, g := range got {
		require.Equal(t, got[0], g)
		require.NotEmpty(t, g)
	}
	st, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), st.Mode().Perm())
}

func TestUnsafeKeyFilesAreRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.key")
	require.NoError(t, os.WriteFile(path, bytes.Repeat([]byte{1}, 32), 0o644))
	_, err := keyring.Load(path)
	require.ErrorContains(t, err, "chmod 600")
	require.NoError(t, os.Remove(path))
	require.NoError(t, os.WriteFile(path, []byte("short"), 0o600))
	_, err = keyring.Load(path)
	require.ErrorContains(t, err, "backup")
}
