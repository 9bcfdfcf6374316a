//! CAs that signed each other: the way to the root is found, whatever else is in the file.
#![expect(clippy::unwrap_used, reason = "helpers of tests, which fail by it")]

use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use weir_authority::{Authority, CaFiles};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

/// `name`'s certificate, signed by `by`.
fn signed(name: &str, key: &KeyPair, by: (&str, &KeyPair)) -> String {
    named(name).signed_by(key, &Issuer::new(named(by.0), by.1)).unwrap().pem()
}

#[test]
fn a_way_that_leads_nowhere_is_gone_back() {
    let key = || KeyPair::generate().unwrap();
    let (root, gone, cross, own) = (key(), key(), key(), key());
    let [by_gone, gone_by_cross, by_root] = [
        signed("cross", &cross, ("gone", &gone)),
        // A circle: who signed it is what it signed.
        signed("gone", &gone, ("cross", &cross)),
        signed("cross", &cross, ("root", &root)),
    ];
    let roots = named("root").self_signed(&root).unwrap().pem();
    let certificate = signed("own", &own, ("cross", &cross));
    let open = |chain: &[&String]| {
        let files = CaFiles {
            certificate: certificate.clone().into(),
            key: own.serialize_pem().into_bytes().into(),
            roots: roots.clone().into(),
            chain: chain.iter().map(|pem| pem.as_str()).collect::<String>().into(),
        };
        Authority::open(&files, &"cluster.local".parse().unwrap(), DAY, SystemTime::now())
    };
    for chain in [
        &[&by_gone, &gone_by_cross, &by_root][..],
        &[&by_root, &gone_by_cross, &by_gone],
        &[&gone_by_cross, &by_gone, &by_root, &by_root],
    ] {
        let authority = open(chain).unwrap();
        let leaf = authority.serve(&["a.b".to_owned()], DAY, SystemTime::now()).unwrap();
        let [_, first, second] = <[_; 3]>::try_from(pem::parse_many(leaf.chain).unwrap()).unwrap();
        let der = |text: &str| pem::parse(text).unwrap().into_contents();
        assert_eq!((first.into_contents(), second.into_contents()), (der(&certificate), der(&by_root)));
    }
    let error = open(&[&by_gone, &gone_by_cross]).unwrap_err().to_string();
    assert!(error.ends_with("none signed CN=gone"), "{error}");
}

#[test]
fn many_cas_that_sign_each_other_are_given_up_on() {
    let key = || KeyPair::generate().unwrap();
    let (root, own) = (key(), key());
    // Each signed each under one name: without a bound, 20 choices at each of 8 steps.
    let keys: Vec<_> = (0..8).map(|_| key()).collect();
    let chain: String =
        keys.iter().flat_map(|a| keys.iter().map(|b| signed("same", a, ("same", b)))).take(64).collect();
    let files = CaFiles {
        certificate: signed("own", &own, ("same", &keys[0])).into(),
        key: own.serialize_pem().into_bytes().into(),
        roots: named("root").self_signed(&root).unwrap().pem().into(),
        chain: chain.into(),
    };
    let began = std::time::Instant::now();
    let error = Authority::open(&files, &"cluster.local".parse().unwrap(), DAY, SystemTime::now()).unwrap_err();
    assert!(error.to_string().contains("none signed CN=same"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}
