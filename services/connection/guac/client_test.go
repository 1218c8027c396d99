package guac_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/connection/guac"
)

func check(t *testing.T, rules guac.ClientRules, raw []byte) (guac.Verdict, error) {
	t.Helper()
	var in guac.Instruction
	require.NoError(t, in.Parse(raw))
	return rules.Check(&in, 1000)
}

// What a stock client sends and guacd would misread has one meaning: a page at 125 %
// has sizes with fractions, and JavaScript has true and false.
func TestWhatOnlyLooksWrongIsPutRight(t *testing.T) {
	rules := guac.ClientRules{Protocol: "ssh", DPI: 96}
	for in, want := range map[string]string{
		"4.size,7.1251.25,6.751.25;":                                     string(encode("size", "1251", "751")),
		"3.key,2.97,4.true;":                                             string(encode("key", "97", "1")),
		"3.key,2.97,5.false;":                                            string(encode("key", "97", "0")),
		string(encode("mouse", "-3.5", "10.499", "1")):                   string(encode("mouse", "-4", "10", "1")),
		string(encode("mouse", "1e2", "1e-7", "0")):                      string(encode("mouse", "100", "0", "0")),
		string(encode("touch", "0", "1.2", "3.8", "2", "2", "0.5", "1")): string(encode("touch", "0", "1", "4", "2", "2", "0.5", "1")),
		string(encode("size", "1", "1")):                                 string(encode("size", "192", "192")),
		string(encode("size", "100000", "100000")):                       string(encode("size", "4096", "4096")),
		string(encode("size", "1920", "1080")):                           string(encode("size", "1920", "1080")),
	} {
		var i guac.Instruction
		require.NoError(t, i.Parse([]byte(in)))
		verdict, err := rules.Check(&i, 0)
		require.NoError(t, err, in)
		require.Equal(t, guac.Forward, verdict, in)
		require.Equal(t, want, string(i.Raw()), in)
	}
}

// A screen in which no character has room crashes guacd's terminal, and a huge one
// fills its memory.
func TestBoundsOfAScreen(t *testing.T) {
	b := guac.Bounds{Pixels: 1 << 20}
	for _, dpi := range []int{1, 24, 96, 384, 1000} {
		for _, size := range [][2]int{{1, 1}, {1, 8000}, {1251, 751}, {1 << 30, 1}, {1 << 30, 1 << 30}, {4000, 4000}} {
			s := b.Screen(guac.Screen{Width: size[0], Height: size[1], DPI: dpi})
			require.NoError(t, s.Check())
			require.GreaterOrEqual(t, s.Width, 160)
			require.GreaterOrEqual(t, s.Height, 120)
			require.LessOrEqual(t, s.Width*s.Height, 1<<20)
			require.GreaterOrEqual(t, s.Height*10, s.DPI*8, "a row of the largest font, %+v", s)
		}
	}
	require.Equal(t, guac.Screen{Width: 1251, Height: 751, DPI: 120}, b.Screen(guac.Screen{Width: 1251, Height: 751, DPI: 120}))
	for text, want := range map[string]int{"1251.25": 1251, "1024": 1024, "0": 0, "750.5": 751} {
		got, ok := guac.Pixels(text)
		require.True(t, ok)
		require.Equal(t, want, got)
	}
	for _, bad := range []string{"", "x", "-1", "NaN", "Infinity", "1e99", "0x10", "12px"} {
		_, ok := guac.Pixels(bad)
		require.False(t, ok, bad)
	}
}

func TestClientRules(t *testing.T) {
	ssh := guac.ClientRules{Protocol: "ssh", Reserved: 56}
	for name, c := range map[string]struct {
		in     []byte
		want   guac.Verdict
		status guac.Status // when refused
	}{
		"a key":                        {encode("key", "65293", "1"), guac.Forward, 0},
		"key without a state":          {encode("key", "65293"), guac.Refuse, guac.ClientBadRequest},
		"key with a third argument":    {encode("key", "65293", "1", "0"), guac.Refuse, guac.ClientBadRequest},
		"key that is no number":        {encode("key", "x", "1"), guac.Refuse, guac.ClientBadRequest},
		"key half pressed":             {encode("key", "97", "2"), guac.Refuse, guac.ClientBadRequest},
		"key over a C int":             {encode("key", "2147483648", "1"), guac.Refuse, guac.ClientBadRequest},
		"a mouse left of the screen":   {encode("mouse", "-3", "4", "0"), guac.Forward, 0},
		"mouse with no arguments":      {encode("mouse"), guac.Refuse, guac.ClientBadRequest},
		"mouse with a plus sign":       {encode("mouse", "+3", "4", "0"), guac.Refuse, guac.ClientBadRequest},
		"mouse in hex":                 {encode("mouse", "0x3", "4", "0"), guac.Refuse, guac.ClientBadRequest},
		"empty number":                 {encode("mouse", "", "4", "0"), guac.Refuse, guac.ClientBadRequest},
		"a touch":                      {encode("touch", "0", "10", "10", "3", "3", "0.25", "1e-7"), guac.Forward, 0},
		"touch cut short":              {encode("touch", "0", "10"), guac.Refuse, guac.ClientBadRequest},
		"a sync that was sent":         {encode("sync", "1000"), guac.Forward, 0},
		"a sync from the future":       {encode("sync", "1001"), guac.Refuse, guac.ClientBadRequest},
		"a sync before time":           {encode("sync", "-1"), guac.Refuse, guac.ClientBadRequest},
		"sync without a timestamp":     {encode("sync"), guac.Refuse, guac.ClientBadRequest},
		"a size":                       {encode("size", "1024", "768"), guac.Forward, 0},
		"size of a hidden element":     {encode("size", "0", "0"), guac.Drop, 0},
		"size of a warehouse":          {encode("size", "100000", "100000"), guac.Forward, 0},
		"size of nothing":              {encode("size", "NaN", "768"), guac.Refuse, guac.ClientBadRequest},
		"a stream with a fraction":     {encode("end", "0.5"), guac.Refuse, guac.ClientBadRequest},
		"a clipboard":                  {encode("clipboard", "0", "text/plain"), guac.Forward, 0},
		"clipboard with a nul":         {[]byte("9.clipboard,1.0,10.text/pl\x00in;"), guac.Refuse, guac.ClientBadRequest},
		"a blob":                       {encode("blob", "0", "aGVsbG8="), guac.Forward, 0},
		"blob that is not base64":      {encode("blob", "0", "a;b,"), guac.Refuse, guac.ClientBadRequest},
		"blob on a negative stream":    {encode("blob", "-1", "aGVsbG8="), guac.Refuse, guac.ClientBadRequest},
		"blob on the broker's streams": {encode("blob", "56", "aGVsbG8="), guac.Refuse, guac.ClientBadRequest},
		"an end":                       {encode("end", "0"), guac.Forward, 0},
		"an ack":                       {encode("ack", "1", "OK", "0"), guac.Forward, 0},
		"ack of a high stream":         {encode("ack", "60", "OK", "0"), guac.Forward, 0},
		"colours":                      {encode("argv", "0", "text/plain", "color-scheme"), guac.Forward, 0},
		"another host":                 {encode("argv", "0", "text/plain", "hostname"), guac.Refuse, guac.ClientForbidden},
		"a password":                   {encode("argv", "0", "text/plain", "password"), guac.Refuse, guac.ClientForbidden},
		"a pipe":                       {encode("pipe", "0", "text/plain", "STDIN"), guac.Refuse, guac.ClientForbidden},
		"nop":                          {encode("nop"), guac.Drop, 0},
		"nop with an argument":         {encode("nop", "1"), guac.Refuse, guac.ClientBadRequest},
		"goodbye":                      {encode("disconnect"), guac.Disconnect, 0},
		"a tunnel ping":                {encode("", "ping", "1700000000000"), guac.Ping, 0},
		"a ping that is no number":     {encode("", "ping", "now"), guac.Refuse, guac.ClientBadRequest},
		"another tunnel instruction":   {encode("", "x"), guac.Drop, 0},
		"the handshake again":          {encode("select", "vnc"), guac.Refuse, guac.ClientBadRequest},
		"connect again":                {encode("connect", "VERSION_1_5_0", "evil"), guac.Refuse, guac.ClientBadRequest},
		"usb":                          {encode("usbconnect", "1"), guac.Refuse, guac.ClientBadRequest},
		"unknown":                      {encode("sudo"), guac.Refuse, guac.ClientBadRequest},
		"opcode in capitals":           {encode("KEY", "97", "1"), guac.Refuse, guac.ClientBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := check(t, ssh, c.in)
			require.Equal(t, c.want, got)
			if c.want != guac.Refuse {
				require.NoError(t, err)
				return
			}
			var refusal *guac.Refusal
			require.ErrorAs(t, err, &refusal)
			require.Equal(t, c.status, refusal.Status)
		})
	}
}

// guacd accepts these from any user of a running RDP or VNC session.
func TestCredentialsAreNeverTheClientsToSet(t *testing.T) {
	for _, protocol := range []string{"rdp", "vnc", "ssh", "telnet", "kubernetes", "", "$id"} {
		for _, name := range []string{"username", "password", "domain", "hostname", "recording-path", ""} {
			require.False(t, guac.ClientArgv(protocol, name), "%s %s", protocol, name)
		}
	}
}

func TestRefusalsHoldNoValues(t *testing.T) {
	for _, raw := range [][]byte{encode("key", "hunter2", "1"), encode("hunter2", "1"), encode("argv", "0", "text/plain", "hunter2")} {
		_, err := check(t, guac.ClientRules{Protocol: "ssh"}, raw)
		require.Error(t, err)
		require.NotContains(t, err.Error(), "hunter2")
	}
}

// Parameters that no client may set (reference/guacamole.md, 2.2): nothing that a
// client sends reaches any of them.
func TestScreenReachesNoParameter(t *testing.T) {
	require.Error(t, guac.Screen{Width: 1, Height: 1, DPI: 96, Timezone: "../../etc/passwd"}.Check())
	require.Error(t, guac.Screen{Width: 1, Height: 1, DPI: 96, Timezone: "Local"}.Check())
	require.Error(t, guac.Screen{Width: 1, Height: 1, DPI: 96, Image: []string{"image/png\n"}}.Check())
	require.Error(t, guac.Screen{Width: 1, Height: 1, DPI: 96, Name: strings.Repeat("x", 257)}.Check())
	require.Error(t, guac.Screen{Width: 0, Height: 1, DPI: 96}.Check())
	require.Error(t, guac.Screen{Width: 1, Height: 8193, DPI: 96}.Check())
	require.NoError(t, guac.Screen{Width: 1, Height: 1, DPI: 96, Timezone: "Europe/Berlin", Image: []string{"image/png"}}.Check())
}

func TestServerInstructionsThatConcernTheBroker(t *testing.T) {
	for want, list := range map[guac.ServerSeen][][]byte{
		guac.Sync:     {encode("sync", "5"), encode("sync", "5", "1")},
		guac.Failed:   {encode("error", "x", "519")},
		guac.Gone:     {encode("disconnect")},
		guac.Required: {encode("required", "password")},
		guac.Ack:      {encode("ack", "63", "OK", "0")},
		guac.Foreign:  {encode("", "uuid"), encode("ready", "$x"), encode("args")},
		guac.Joined:   {encode("msg", "1", "@id", "eve"), encode("mouse", "1", "2", "0", "5")},
		guac.Plain:    {encode("msg", "2", "@id", "eve"), encode("mouses"), encode("syncs", "5"), encode("name", "4.sync,1.5;"), encode("nop"), encode("img", "1"), encode("disconnected!")},
	} {
		for _, raw := range list {
			require.Equal(t, want, guac.See(raw), "%s", raw)
		}
	}
	ts, ok := guac.SyncTime(encode("sync", "123456789", "1"))
	require.True(t, ok)
	require.EqualValues(t, 123456789, ts)
	for _, raw := range [][]byte{encode("sync"), encode("sync", ""), encode("sync", "x"), encode("sync", "-4")} {
		_, ok := guac.SyncTime(raw)
		require.False(t, ok, "%s", raw)
	}
}

func TestStatusCodesOfTheTunnel(t *testing.T) {
	require.Equal(t, "769", guac.ClientUnauthorized.Decimal())
	require.EqualValues(t, 1008, guac.ClientUnauthorized.WebSocketCode())
	require.EqualValues(t, 1000, guac.Success.WebSocketCode())
	require.Equal(t, guac.UpstreamNotFound, guac.ParseStatus([]byte("519")))
	require.Equal(t, guac.ServerError, guac.ParseStatus([]byte("INVALID_TOKEN")))
}
