/*
 * svcenc encodes raw I420 frames from its standard input as VP9 in the
 * scalability mode L3T3_KEY and writes them to an IVF file, each spatial layer
 * of a picture as a frame of its own, lowest first: what an RTP sender needs and
 * what ffmpeg's libvpx wrapper cannot give.
 *
 *   svcenc WIDTH HEIGHT FPS FRAMES KEY_EVERY FILE KBPS_LOW KBPS_MID KBPS_TOP
 *
 * It fails rather than write something else than L3T3_KEY with the temporal
 * pattern 0 2 1 2 from each key picture on: the packetiser counts on it.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vpx/vp8cx.h>
#include <vpx/vpx_encoder.h>

enum { SPATIAL = 3, TEMPORAL = 3 };

/* The parts of the bitrate that temporal layers have, added up: libwebrtc's. */
static const int share[TEMPORAL] = { 40, 60, 100 };
static const int pattern[4] = { 0, 2, 1, 2 };

struct out {
  FILE *file;
  vpx_codec_ctx_t *codec;
  uint32_t picture, key_every, layers, frames;
};

static void die(const char *what, vpx_codec_ctx_t *codec) {
  if (codec != NULL) {
    const char *detail = vpx_codec_error_detail(codec);
    fprintf(stderr, "svcenc: %s: %s%s%s\n", what, vpx_codec_error(codec), detail ? ": " : "", detail ? detail : "");
  } else {
    fprintf(stderr, "svcenc: %s\n", what);
  }
  exit(1);
}

static void put(uint8_t *at, uint64_t v, int bytes) {
  for (int i = 0; i < bytes; i++) at[i] = (uint8_t)(v >> (8 * i));
}

static void write_all(FILE *f, const void *data, size_t n) {
  if (fwrite(data, 1, n, f) != n) die("the file could not be written", NULL);
}

/* ivf_head writes the file's header; frames is not known at first. */
static void ivf_head(FILE *f, int w, int h, int fps, uint32_t frames) {
  uint8_t b[32] = { 'D', 'K', 'I', 'F' };
  put(b + 6, 32, 2);
  memcpy(b + 8, "VP90", 4);
  put(b + 12, (uint64_t)w, 2);
  put(b + 14, (uint64_t)h, 2);
  put(b + 16, (uint64_t)fps, 4);
  put(b + 20, 1, 4);
  put(b + 24, frames, 4);
  write_all(f, b, sizeof b);
}

/* layer is called with each spatial layer as soon as it is encoded. */
static void layer(vpx_codec_cx_pkt_t *pkt, void *user) {
  struct out *o = user;
  vpx_svc_layer_id_t id;
  uint8_t b[12];
  if (pkt->kind != VPX_CODEC_CX_FRAME_PKT) return;
  memset(&id, 0, sizeof id);
  if (vpx_codec_control(o->codec, VP9E_GET_SVC_LAYER_ID, &id) != VPX_CODEC_OK) die("layer id", o->codec);
  int want = pattern[o->picture % o->key_every % 4];
  if (id.spatial_layer_id != (int)o->layers || id.temporal_layer_id != want) {
    fprintf(stderr, "svcenc: picture %u: layer S%dT%d where S%uT%d was to be\n", o->picture, id.spatial_layer_id,
            id.temporal_layer_id, o->layers, want);
    exit(1);
  }
  put(b, pkt->data.frame.sz, 4);
  put(b + 4, o->picture, 8);
  write_all(o->file, b, sizeof b);
  write_all(o->file, pkt->data.frame.buf, pkt->data.frame.sz);
  o->layers++;
  o->frames++;
}

static void control(vpx_codec_ctx_t *codec, vpx_codec_err_t err, const char *what) {
  if (err != VPX_CODEC_OK) die(what, codec);
}

static void configure(vpx_codec_enc_cfg_t *cfg, int w, int h, int fps, char **kbps) {
  if (vpx_codec_enc_config_default(vpx_codec_vp9_cx(), cfg, 0) != VPX_CODEC_OK) die("configuration", NULL);
  cfg->g_w = (unsigned)w;
  cfg->g_h = (unsigned)h;
  cfg->g_timebase.num = 1;
  cfg->g_timebase.den = fps;
  cfg->g_threads = 2;
  cfg->g_lag_in_frames = 0;
  cfg->g_pass = VPX_RC_ONE_PASS;
  cfg->g_error_resilient = VPX_ERROR_RESILIENT_DEFAULT;
  cfg->kf_mode = VPX_KF_DISABLED; /* they are asked for one by one */
  cfg->rc_end_usage = VPX_CBR;
  cfg->rc_dropframe_thresh = 0;
  cfg->rc_resize_allowed = 0;
  cfg->rc_min_quantizer = 2;
  cfg->rc_max_quantizer = 58;
  cfg->rc_buf_sz = 1000;
  cfg->rc_buf_initial_sz = 500;
  cfg->rc_buf_optimal_sz = 600;
  cfg->ss_number_layers = SPATIAL;
  cfg->ts_number_layers = TEMPORAL;
  cfg->ts_rate_decimator[0] = 4;
  cfg->ts_rate_decimator[1] = 2;
  cfg->ts_rate_decimator[2] = 1;
  cfg->temporal_layering_mode = VP9E_TEMPORAL_LAYERING_MODE_0212;
  cfg->rc_target_bitrate = 0;
  for (int s = 0; s < SPATIAL; s++) {
    unsigned rate = (unsigned)atoi(kbps[s]);
    cfg->ss_target_bitrate[s] = rate;
    cfg->rc_target_bitrate += rate;
    for (int t = 0; t < TEMPORAL; t++) cfg->layer_target_bitrate[s * TEMPORAL + t] = rate * (unsigned)share[t] / 100;
  }
}

int main(int argc, char **argv) {
  if (argc != 10) die("usage: svcenc WIDTH HEIGHT FPS FRAMES KEY_EVERY FILE KBPS_LOW KBPS_MID KBPS_TOP", NULL);
  int w = atoi(argv[1]), h = atoi(argv[2]), fps = atoi(argv[3]), frames = atoi(argv[4]), every = atoi(argv[5]);
  if (w < 16 || h < 16 || fps < 1 || frames < 1 || every < 1) die("a number is too small", NULL);

  vpx_codec_enc_cfg_t cfg;
  vpx_codec_ctx_t codec;
  configure(&cfg, w, h, fps, argv + 7);
  if (vpx_codec_enc_init(&codec, vpx_codec_vp9_cx(), &cfg, 0) != VPX_CODEC_OK) die("encoder", &codec);
  control(&codec, vpx_codec_control(&codec, VP9E_SET_SVC, 1), "SVC");
  vpx_svc_extra_cfg_t svc;
  memset(&svc, 0, sizeof svc);
  for (int s = 0; s < SPATIAL; s++) {
    svc.scaling_factor_num[s] = 1;
    svc.scaling_factor_den[s] = 1 << (SPATIAL - 1 - s);
    svc.speed_per_layer[s] = 7;
    for (int t = 0; t < TEMPORAL; t++) {
      svc.min_quantizers[s * TEMPORAL + t] = (int)cfg.rc_min_quantizer;
      svc.max_quantizers[s * TEMPORAL + t] = (int)cfg.rc_max_quantizer;
    }
  }
  svc.temporal_layering_mode = cfg.temporal_layering_mode;
  control(&codec, vpx_codec_control(&codec, VP9E_SET_SVC_PARAMETERS, &svc), "layers");
  control(&codec, vpx_codec_control(&codec, VP8E_SET_CPUUSED, 7), "speed");
  control(&codec, vpx_codec_control(&codec, VP9E_SET_ROW_MT, 1), "threads");
  control(&codec, vpx_codec_control(&codec, VP9E_SET_AQ_MODE, 3), "quantisation");
  /* 2: upper layers refer to lower ones in key pictures only. */
  control(&codec, vpx_codec_control(&codec, VP9E_SET_SVC_INTER_LAYER_PRED, 2), "prediction between layers");
  struct out out = { .codec = &codec, .key_every = (uint32_t)every };
  vpx_codec_priv_output_cx_pkt_cb_pair_t callback = { layer, &out };
  control(&codec, vpx_codec_control(&codec, VP9E_REGISTER_CX_CALLBACK, (void *)&callback), "callback");

  out.file = fopen(argv[6], "wb");
  if (out.file == NULL) die("the file could not be made", NULL);
  ivf_head(out.file, w, h, fps, (uint32_t)(frames * SPATIAL));
  vpx_image_t img;
  if (vpx_img_alloc(&img, VPX_IMG_FMT_I420, (unsigned)w, (unsigned)h, 16) == NULL) die("no memory", NULL);
  for (int n = 0; n < frames; n++) {
    for (int p = 0; p < 3; p++) {
      int pw = p ? w / 2 : w, ph = p ? h / 2 : h;
      for (int y = 0; y < ph; y++)
        if (fread(img.planes[p] + (size_t)y * (size_t)img.stride[p], 1, (size_t)pw, stdin) != (size_t)pw)
          die("the input ended before its last frame", NULL);
    }
    out.picture = (uint32_t)n;
    out.layers = 0;
    if (vpx_codec_encode(&codec, &img, n, 1, n % every == 0 ? VPX_EFLAG_FORCE_KF : 0, VPX_DL_REALTIME) != VPX_CODEC_OK)
      die("encode", &codec);
    if (out.layers != SPATIAL) die("a picture has not all spatial layers", NULL);
  }
  if (fclose(out.file) != 0) die("the file could not be written", NULL);
  vpx_img_free(&img);
  vpx_codec_destroy(&codec);
  return 0;
}
