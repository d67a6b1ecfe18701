pub(crate) use crate::checkout;
use anyhow::Result;
#[derive(clap::Args)]
pub(crate) struct Args {
    filter: Vec<String>,
}
pub(crate) fn run(_: &Args) -> Result<()> {
    Ok(())
}
