use in_netns::in_netns;

#[in_netns("blue", frseh)]
fn misspelt() {}

#[in_netns("blue", thread = "name")]
fn with_value() {}

#[in_netns("blue", allow(everything))]
fn with_list() {}

#[in_netns("blue", new)]
fn new_as_an_option() {}

#[in_netns("blue", "red")]
fn a_second_namespace() {}

#[in_netns("blue" fresh)]
fn no_comma() {}

#[in_netns("blue", eror = "panic", audlt = "off")]
fn several_misspelt() {}

#[in_netns(veiw = &view)]
fn misspelt_view(view: &in_netns::View) {}

#[in_netns(eror = "panic")]
fn misspelt_without_a_namespace() {}

fn main() {}
