//! Declarations of libmunge, made by `cargo xtask bindings` from munge.h and never edited by hand.
//!
//! `cargo xtask bindings --check` compares this file with the installed header.
#![allow(unsafe_code, missing_docs, non_camel_case_types, dead_code)]

pub const EPROTOTYPE: u32 = 91;
pub type __uid_t = ::core::ffi::c_uint;
pub type __gid_t = ::core::ffi::c_uint;
pub type __time_t = ::core::ffi::c_long;
pub type gid_t = __gid_t;
pub type uid_t = __uid_t;
pub type time_t = __time_t;
#[repr(C)]
#[derive(Debug)]
pub struct munge_ctx {
    _unused: [u8; 0],
}
pub type munge_ctx_t = *mut munge_ctx;
pub const MUNGE_OPT_CIPHER_TYPE: munge_opt = 0;
pub const MUNGE_OPT_MAC_TYPE: munge_opt = 1;
pub const MUNGE_OPT_ZIP_TYPE: munge_opt = 2;
pub const MUNGE_OPT_REALM: munge_opt = 3;
pub const MUNGE_OPT_TTL: munge_opt = 4;
pub const MUNGE_OPT_ADDR4: munge_opt = 5;
pub const MUNGE_OPT_ENCODE_TIME: munge_opt = 6;
pub const MUNGE_OPT_DECODE_TIME: munge_opt = 7;
pub const MUNGE_OPT_SOCKET: munge_opt = 8;
pub const MUNGE_OPT_UID_RESTRICTION: munge_opt = 9;
pub const MUNGE_OPT_GID_RESTRICTION: munge_opt = 10;
pub type munge_opt = ::core::ffi::c_uint;
pub const MUNGE_TTL_MAXIMUM: munge_ttl = -1;
pub const MUNGE_TTL_DEFAULT: munge_ttl = 0;
pub type munge_ttl = ::core::ffi::c_int;
pub const MUNGE_UID_ANY: munge_uid = -1;
pub type munge_uid = ::core::ffi::c_int;
pub const EMUNGE_SUCCESS: munge_err = 0;
pub const EMUNGE_SNAFU: munge_err = 1;
pub const EMUNGE_BAD_ARG: munge_err = 2;
pub const EMUNGE_BAD_LENGTH: munge_err = 3;
pub const EMUNGE_OVERFLOW: munge_err = 4;
pub const EMUNGE_NO_MEMORY: munge_err = 5;
pub const EMUNGE_SOCKET: munge_err = 6;
pub const EMUNGE_TIMEOUT: munge_err = 7;
pub const EMUNGE_BAD_CRED: munge_err = 8;
pub const EMUNGE_BAD_VERSION: munge_err = 9;
pub const EMUNGE_BAD_CIPHER: munge_err = 10;
pub const EMUNGE_BAD_MAC: munge_err = 11;
pub const EMUNGE_BAD_ZIP: munge_err = 12;
pub const EMUNGE_BAD_REALM: munge_err = 13;
pub const EMUNGE_CRED_INVALID: munge_err = 14;
pub const EMUNGE_CRED_EXPIRED: munge_err = 15;
pub const EMUNGE_CRED_REWOUND: munge_err = 16;
pub const EMUNGE_CRED_REPLAYED: munge_err = 17;
pub const EMUNGE_CRED_UNAUTHORIZED: munge_err = 18;
pub type munge_err = ::core::ffi::c_uint;
pub use self::munge_err as munge_err_t;
unsafe extern "C" {
    pub fn free(__ptr: *mut ::core::ffi::c_void);
    pub fn munge_encode(
        cred: *mut *mut ::core::ffi::c_char,
        ctx: munge_ctx_t,
        buf: *const ::core::ffi::c_void,
        len: ::core::ffi::c_int,
    ) -> munge_err_t;
    pub fn munge_decode(
        cred: *const ::core::ffi::c_char,
        ctx: munge_ctx_t,
        buf: *mut *mut ::core::ffi::c_void,
        len: *mut ::core::ffi::c_int,
        uid: *mut uid_t,
        gid: *mut gid_t,
    ) -> munge_err_t;
    pub fn munge_strerror(e: munge_err_t) -> *const ::core::ffi::c_char;
    pub fn munge_ctx_create() -> munge_ctx_t;
    pub fn munge_ctx_copy(ctx: munge_ctx_t) -> munge_ctx_t;
    pub fn munge_ctx_destroy(ctx: munge_ctx_t);
    pub fn munge_ctx_strerror(ctx: munge_ctx_t) -> *const ::core::ffi::c_char;
    pub fn munge_ctx_get(ctx: munge_ctx_t, opt: ::core::ffi::c_int, ...) -> munge_err_t;
    pub fn munge_ctx_set(ctx: munge_ctx_t, opt: ::core::ffi::c_int, ...) -> munge_err_t;
}
