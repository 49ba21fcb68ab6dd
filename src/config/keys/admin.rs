//! The keys of `[admin]`: the listener for operators, and who may do what on it.

use super::{Key, Shape, key};

/// `[admin]`
pub static ADMIN: [Key; 7] = [
    key(
        "listen",
        Shape::Text("an address such as \"127.0.0.1:8081\""),
        "\"127.0.0.1:8081\"",
        "Address to listen on. Where it is left out and taken already, the gateway runs without this listener.",
    ),
    key(
        "token_file",
        Shape::SecretText("the path of a file that holds a token"),
        "",
        "File with the bearer token (16 printable characters or more, white space around it is dropped) that changes to \
         records need. Left out: the operations API shows records and changes none.",
    ),
    key(
        "audit_file",
        Shape::Text("the path of a file such as \"/var/lib/onceway/audit.jsonl\""),
        "",
        "File to which every change to a record by an operator is written before it is made. Required with token_file, \
         but where the store is file:, whose directory then holds audit.jsonl.",
    ),
    key(
        "tls_certificate_file",
        Shape::Text("the path of a PEM file with a certificate and its chain"),
        "",
        "Certificate and chain, in PEM, that operators see. With it the listener speaks TLS only.",
    ),
    key(
        "tls_key_file",
        Shape::SecretText("the path of a PEM file with the private key of tls_certificate_file"),
        "",
        "Private key of the certificate, in PEM.",
    ),
    key(
        "tls_client_ca_file",
        Shape::Text("the path of a PEM file with certificates"),
        "",
        "Certificates, in PEM, of those who vouch for operators. Who shows a certificate of theirs may use the \
         operations API and the console from other machines; who shows none gets health and metrics there.",
    ),
    key(
        "host_names",
        Shape::Texts("a host name such as \"onceway.internal\""),
        "[]",
        "Names by which operators call this listener, beside addresses and localhost. Under any other name the \
         operations API and the console are not served, so that no web page can reach them through a visitor's browser.",
    ),
];
