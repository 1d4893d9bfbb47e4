import pytest

from app.install_links import InstallLinks, install_links
from app.values.activation_code import ActivationCode

CODE = "LPA:1$SMDP.GSMA.COM$AB-12$1.3.6.1$1"


def test_each_system_gets_the_whole_text_of_the_qr_unencoded() -> None:
    assert install_links(ActivationCode.read(CODE)) == InstallLinks(
        ios_url=f"https://esimsetup.apple.com/esim_qrcode_provisioning?carddata={CODE}",
        android_url=f"https://esimsetup.android.com/esim_qrcode_provisioning?carddata={CODE}",
        windows_url="lpa:1$SMDP.GSMA.COM$AB-12$1.3.6.1$1",
    )


@pytest.mark.parametrize("text", [CODE, CODE.removeprefix("LPA:"), f"lpa:{CODE[4:]}", f" {CODE}\n"])
def test_every_spelling_of_a_code_gives_the_same_links(text: str) -> None:
    assert install_links(text) == install_links(ActivationCode.read(CODE))


def test_the_case_of_a_matching_id_is_left_as_it_is() -> None:
    assert install_links("1$smdp.gsma.com$ab").windows_url == "lpa:1$smdp.gsma.com$ab"


def test_an_odd_code_of_harmless_characters_gets_links_too() -> None:
    assert install_links("LPA:1$XYZ").ios_url is not None


@pytest.mark.parametrize(
    "text", ["1$A.B$C_D", "1$A.B$C D", "1$A.B$C&x=1", "1$A.B$C#", "1$Ä.B$C", "1$A.B$%43", "1$A.B$٣"]
)
def test_a_code_with_any_other_character_gets_no_link(text: str) -> None:
    assert install_links(text) == InstallLinks(None, None, None)


@pytest.mark.parametrize("text", ["", "LPA:", "https://example.com", "2$A.B$C"])
def test_what_is_no_code_gets_no_link(text: str) -> None:
    assert install_links(text) == InstallLinks(None, None, None)


def test_links_do_not_show_themselves() -> None:
    assert f"{install_links(CODE)!r} {install_links(CODE)}" == "InstallLinks([code]) InstallLinks([code])"
